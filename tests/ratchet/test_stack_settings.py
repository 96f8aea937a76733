"""What the stack keeps on disk: ports that stay, secrets that are private, a socket path that fits."""

from __future__ import annotations

import os
import socket
import stat

import pytest

from ratchet.cli.stack.settings import SOCKET_PATH_BYTES, USUAL_PORTS, Settings, StackError


@pytest.fixture
def settings(tmp_path):
    made = Settings(home=tmp_path / "home", checkout=tmp_path / "checkout", dags=tmp_path / "dags")
    made.make_directories()
    return made


@pytest.fixture
def taken_port():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_ports_stay_what_they_were_from_one_up_to_the_next(settings):
    assert settings.choose_ports({}) == settings.choose_ports({}) == settings.ports
    assert sorted(settings.ports) == sorted(USUAL_PORTS)
    assert len(set(settings.ports.values())) == len(USUAL_PORTS)


def test_a_port_that_was_taken_meanwhile_is_replaced(settings, taken_port, monkeypatch):
    (settings.home / "ports.json").write_text(f'{{"mlflow": {taken_port}}}')
    assert settings.choose_ports({})["mlflow"] != taken_port


def test_a_port_that_was_asked_for_is_used_and_kept(settings, taken_port):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    settings.choose_ports({"AIRFLOW_PORT": str(free)})
    assert settings.ports["airflow"] == free
    assert settings.choose_ports({})["airflow"] == free


def test_a_port_that_was_asked_for_and_is_taken_is_refused(settings, taken_port):
    with pytest.raises(StackError, match=f"AIRFLOW_PORT={taken_port} is taken"):
        settings.choose_ports({"AIRFLOW_PORT": str(taken_port)})


def test_a_port_that_is_no_number_is_refused(settings):
    with pytest.raises(StackError, match="MLFLOW_PORT='http'"):
        settings.choose_ports({"MLFLOW_PORT": "http"})


def test_a_port_that_was_asked_for_twice_is_refused_before_anything_is_kept(settings):
    with pytest.raises(StackError, match="MLFLOW_PORT=20001 is AIRFLOW_PORT too; nothing was started"):
        settings.choose_ports({"AIRFLOW_PORT": "20001", "MLFLOW_PORT": "20001"})
    assert not (settings.home / "ports.json").exists()


def test_a_port_that_was_asked_for_is_no_other_servers(settings, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        usual = probe.getsockname()[1]
    monkeypatch.setitem(USUAL_PORTS, "airflow", usual)
    chosen = settings.choose_ports({"MLFLOW_PORT": str(usual)})
    assert chosen["mlflow"] == usual != chosen["airflow"]


@pytest.mark.parametrize("home", ["a-file", "a-file/below", "/proc/x"])
def test_a_home_that_cannot_be_is_refused_by_name(tmp_path, home):
    (tmp_path / "a-file").touch()
    stack = Settings(home=tmp_path / home, checkout=tmp_path, dags=tmp_path)
    with pytest.raises(StackError, match=f"RATCHET_HOME={stack.home} cannot be used: .*; nothing was started"):
        stack.make_directories()
    with pytest.raises(StackError, match="No stack was ever started"):
        _ = stack.ports


def test_before_the_first_up_the_user_is_told_to_make_up(settings):
    with pytest.raises(StackError, match="make up"):
        _ = settings.ports


def test_secrets_are_generated_once_and_nobody_else_reads_them(settings):
    again = Settings(home=settings.home, checkout=settings.checkout, dags=settings.dags)
    assert settings.secrets == again.secrets
    assert settings.passwords == again.passwords
    assert len({*settings.secrets.values(), *settings.passwords.values()}) == 8
    for file in (settings.run / "secrets.json", settings.passwords_file):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.run.stat().st_mode) == 0o700


def test_a_deep_checkout_has_a_control_socket_in_a_private_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    deep = Settings(home=tmp_path / ("d" * 60) / ("e" * 60), checkout=tmp_path, dags=tmp_path)
    place = deep.control_socket
    assert len(os.fsencode(place)) <= SOCKET_PATH_BYTES
    assert place == deep.control_socket
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    place.parent.rmdir()


def test_a_directory_that_others_may_enter_is_not_trusted_with_the_socket(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    deep = Settings(home=tmp_path / ("d" * 60) / ("f" * 60), checkout=tmp_path, dags=tmp_path)
    directory = deep.control_socket.parent
    directory.chmod(0o777)
    with pytest.raises(StackError, match="private directory"):
        _ = deep.control_socket
    directory.rmdir()
