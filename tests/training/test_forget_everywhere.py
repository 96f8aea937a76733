"""A text goes the whole way, from a file to a release, and is then looked for in every byte that is left."""

import gzip
import json
import shutil
from dataclasses import replace

import pytest
from mlflow import MlflowClient
from pyarrow import parquet

from serving.release import read_release
from tests.tiny import tiny_checkpoint
from tests.training.source import ROWS, Source
from tests.training.tracked import target
from training import behaviour
from training.contract import EvaluateRequest, ForgetRequest, JudgeRequest, PackageRequest, TrainRequest
from training.evaluate import evaluate
from training.forget import forget
from training.judge import judge
from training.package import package
from training.store import Store, local_path
from training.tags import DATA_REPORT_TAG, VERDICT_TAG
from training.text import identity_of, split_of, text_hash
from training.train import train
from training.verdict import DETAILS, PAGE, VERDICT
from training.verdict_page import verdict_page

pytestmark = pytest.mark.filterwarnings("default")  # of torch, transformers and mlflow: theirs to mend
PIPELINE = "everywhere"


def text_in(split):
    return next(text for i in range(1000) if split_of(text := f"the secret of {split} {i}", 15, 10) == split)


# Whatever the model answers, each text is a failure of one of them
BEHAVIOUR = [
    {
        "name": must_not,
        "kind": "directional",
        "pass_share": 0.1,
        "cases": 1000,
        "label": "pos",
        "must_not": must_not,
        "tolerance": 0.0,
        "add": " and more",
    }
    for must_not in ("fall", "rise")
]
SECRETS = [text_in("train"), text_in("validation"), text_in("test")]


class Pipeline(Source):
    """A folder, and all the steps."""

    def __init__(self, place, server):
        super().__init__(place)
        self.base = tiny_checkpoint(place / "base")
        self.client = MlflowClient(server, server)
        self.common = {"pipeline": PIPELINE, "store": str(self.store), "work": str(place / "work")}
        self.tracking = target(server, PIPELINE)
        Store(str(self.store)).create_json(f"ledger/{PIPELINE}/000001.json", {"event": "begun"})

    def run(self):
        """:return: what each step made."""
        data = self.ingest(bad_rows_percent=50.0)
        arguments = {"max_steps": 2, "per_device_train_batch_size": 8}
        request = TrainRequest(
            **self.common,
            snapshot=data.snapshot,
            base_model=str(self.base),
            arguments=arguments,
            tracking=self.tracking,
        )
        model = train(request)
        report = evaluate(
            EvaluateRequest(
                **self.common,
                candidate=model.model,
                test_set=data.snapshot,
                golden_examples=1000,
                slices={"all": {"text_length": [0, None]}},
                behaviour=BEHAVIOUR,
            )
        )
        judged = judge(JudgeRequest(pipeline=PIPELINE, store=str(self.store), report=report.report))
        release = package(PackageRequest(**self.common, model=model.model, golden=report.golden))
        return data, model, report, judged, release

    def keep_report(self, uri):
        """With a run of MLflow, as the step in Airflow does."""
        experiment = self.client.create_experiment(f"ratchet/{PIPELINE}/data")
        run = self.client.create_run(experiment)
        self.client.set_tag(run.info.run_id, DATA_REPORT_TAG, uri)
        for name in ("report.json", "report.html"):
            self.client.log_text(run.info.run_id, (local_path(uri) / name).read_text(), name)
        return local_path(run.info.artifact_uri)

    def keep_verdict(self, page, model):
        """With the run that made the candidate, as the gate in Airflow does."""
        self.client.set_tag(model.run_id, VERDICT_TAG, "hold")
        for file in (VERDICT, DETAILS, PAGE):
            self.client.log_text(model.run_id, (local_path(page).parent / file).read_text(), file)

    def keep_verdict_elsewhere(self, page):
        """As a gate by hand does for a model that no pipeline made; somebody has deleted the run since."""
        run = self.client.create_run(self.client.create_experiment("somebody's own"))
        self.client.set_tag(run.info.run_id, VERDICT_TAG, "hold")
        for file in (VERDICT, DETAILS, PAGE):
            self.client.log_text(run.info.run_id, (local_path(page).parent / file).read_text(), file)
        self.client.delete_run(run.info.run_id)
        return local_path(run.info.artifact_uri)

    def artifacts_of(self, model):
        return local_path(self.client.get_run(model.run_id).info.artifact_uri).parents[1]


def holds(places, needle):
    """:return: the files that hold the text, whatever its case, or what identifies it; also compressed ones."""
    found = []
    for path in [path for place in places for path in place.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content += json.dumps(parquet.read_table(path).to_pylist(), default=str, ensure_ascii=False).encode()
        if content.startswith(b"\x1f\x8b"):
            content += gzip.decompress(content)
        if needle.encode() in content.lower() and path.name != "forgotten.json":
            found.append(path)
    return found


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory, tracking_server):
    pipeline = Pipeline(tmp_path_factory.mktemp("pipeline"), tracking_server)
    pipeline.put("first", ROWS)
    rows = [(text, ["pos", "neg"][i % 2]) for i, text in enumerate(SECRETS)]
    pipeline.put("second", [*rows, (SECRETS[0].upper(), "pos"), (SECRETS[1], None), ("one more", "neg")])
    return pipeline


def test_what_was_forgotten_is_in_no_byte_that_is_left(pipeline, monkeypatch):
    monkeypatch.setattr(behaviour, "MOST_EXAMPLES", 1000)
    data, model, report, judged, release = pipeline.run()
    kept_by_mlflow = pipeline.keep_report(data.report)
    elsewhere = pipeline.keep_verdict_elsewhere(judged.page)
    pipeline.keep_verdict(judged.page, model)
    host = pipeline.place / "endpoints"
    shutil.copytree(local_path(release.release), host / "releases" / release.digest)
    places = [pipeline.store, pipeline.place / "work", host, kept_by_mlflow, elsewhere, pipeline.artifacts_of(model)]
    held = {path.name for secret in SECRETS for path in holds(places, secret)}
    assert {"golden.json", "refused.parquet", "report.json", "report.html"} <= held
    assert any(name.startswith("rows-") for name in held)
    pages = [local_path(judged.page), *pipeline.artifacts_of(model).rglob(PAGE)]
    assert len(pages) == 2
    for page in pages:
        assert {path.name for path in holds([page.parent], SECRETS[2])} >= {DETAILS, PAGE}
    of_report = {path.name for path in holds([local_path(report.report).parent], text_hash(SECRETS[2]))}
    assert of_report == {"report.json", "membership.parquet"}

    request = ForgetRequest(
        store=str(pipeline.store),
        work=str(pipeline.place / "work"),
        tracking=pipeline.tracking,
        watermarks=[pipeline.watermark],
        texts=[identity_of(text) for text in SECRETS],
        endpoints=str(host),
    )
    told = forget(replace(request, dry_run=True))
    assert holds(places, SECRETS[0])
    result = forget(request)
    assert result == told
    assert result.versions == [f"models:/{PIPELINE}/{model.version}"]
    for secret in SECRETS:
        assert holds(places, secret) == []
        assert holds(places, identity_of(secret)) == []
    assert result.counts["evaluations"] == result.counts["verdicts"] == 1
    assert result.counts["verdicts in MLflow"] == 2
    for page in pages:
        verdict, details = (json.loads((page.parent / name).read_text()) for name in (VERDICT, DETAILS))
        assert page.read_text() == verdict_page(verdict, details)
    assert result.counts["golden examples of releases"] == result.counts["golden examples of endpoints"] == 1
    for place in (local_path(release.release), host / "releases" / release.digest):
        assert read_release(place).digest == release.digest
        assert read_release(place).golden().texts

    # what is left can be worked with, and brings nothing back
    again, _model, later, _judged, _release = pipeline.run()
    assert again.dropped["forgotten"] == 4
    assert later.rows == report.rows - 1
    assert (
        evaluate(
            EvaluateRequest(**pipeline.common, candidate=model.model, test_set=data.snapshot, golden_examples=1000)
        ).rows
        == report.rows - 1
    )
    for secret in SECRETS:
        assert holds(places, secret) == []
