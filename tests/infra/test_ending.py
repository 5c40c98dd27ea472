"""What is told when a command raises: our own words as they are, everything else for what it is."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import traceback
import urllib.request
from collections.abc import Callable
from pathlib import Path

import botocore.exceptions
import numpy as np
import pytest
import safetensors.numpy
from ray.exceptions import AuthenticationError, RayTaskError

from infra.ending import CONNECTIONS, FAILED, MISTAKE, REFUSED, TRACE, Ending, GateRefused, end, ending
from pipeline import plan


def raised(work: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011  # each case raises its own
        work()
    assert isinstance(caught.value, Exception)
    return caught.value


def ended(work: Callable[[], object], *tokens: str) -> Ending:
    return ending(raised(work), tokens)


def test_what_our_code_raises_is_told_word_for_word_and_the_users_to_mend() -> None:
    found = ended(lambda: plan.up_to((), "nosuch"))
    assert found == Ending(code=MISTAKE, text="there is no step 'nosuch'; the steps of build are ")


def library_refuses() -> object:
    return np.zeros(3).reshape(2, 2)


def a_library_frame_refuses() -> object:
    return np.concatenate([np.zeros((2, 2)), np.zeros(3)])


def our_logic_is_wrong() -> object:
    return plan.up_to(None, "x")  # type: ignore[arg-type]  # the bug that is tried here


@pytest.mark.parametrize("work", [library_refuses, a_library_frame_refuses, our_logic_is_wrong])
def test_the_same_errors_from_elsewhere_are_bugs_told_in_one_line(work: Callable[[], object]) -> None:
    error = raised(work)
    found = ending(error, [])
    assert (found.code, found.foreseen) == (FAILED, False)
    assert "\n" not in found.text
    assert found.text.startswith(f"a bug: {type(error).__name__} at ")


def test_a_bug_in_our_packages_is_told_with_its_line() -> None:
    assert " at pipeline/plan.py:" in ended(our_logic_is_wrong).text


def test_an_assertion_of_ours_is_a_bug_though_a_raise_makes_it() -> None:
    namespace: dict[str, Callable[[], object]] = {}
    # No shipped function fails its own assertion, so one is compiled as if it stood in plan.py.
    exec(compile("def broken():\n    assert not 'two leases'", plan.__file__, "exec"), namespace)  # noqa: S102  # above
    found = ended(namespace["broken"])
    assert " at pipeline/plan.py:2" in found.text
    assert not found.foreseen


def test_a_bugs_trace_is_kept_in_the_cache_or_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(TRACE, raising=False)
    error = raised(library_refuses)
    assert end(error, []) == FAILED
    (kept,) = (tmp_path / "pardalis" / "traces").iterdir()
    assert "library_refuses" in kept.read_text()
    told = capsys.readouterr().err
    assert str(kept) in told
    assert "Traceback" not in told
    monkeypatch.setenv(TRACE, "1")
    end(error, [])
    assert "Traceback" in capsys.readouterr().err


def test_a_secret_is_masked_before_a_message_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "canary-of-the-environment")
    for place in range(360, 410):
        told = ending(RuntimeError(f"{'x' * place}canary-of-the-environment"), []).text
        assert "can" not in told


def test_a_trace_that_cannot_be_kept_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pardalis").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(TRACE, raising=False)
    end(raised(library_refuses), [])
    assert "Traceback" in capsys.readouterr().err


def test_a_file_that_the_command_line_names_is_the_users_to_mend(tmp_path: Path) -> None:
    file = tmp_path / "nope.png"
    for tokens in (["--image", str(file)], [f"--image={file}"], [str(tmp_path)]):
        found = ended(file.read_bytes, *tokens)
        assert (found.code, found.foreseen) == (MISTAKE, True)
        assert str(file) in found.text
    assert ended(file.read_bytes, "--image", "other.png").code == FAILED


def test_a_full_disk_is_no_mistake_of_the_users() -> None:
    found = ending(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), ["build"])
    assert found.code == FAILED
    assert "free what is short" in found.text


REFUSALS = [
    botocore.exceptions.NoCredentialsError(),
    botocore.exceptions.EndpointConnectionError(endpoint_url="http://s3.example"),
    botocore.exceptions.ClientError({"Error": {"Code": "AccessDenied"}}, "PutObject"),
    AuthenticationError("Unauthenticated: no token"),
    ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
    TimeoutError("timed out"),
    OSError("When reading information for key 'x' in bucket 'b': AWS Error ACCESS_DENIED"),
]


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
def test_a_server_that_cannot_be_used_is_told_with_its_address_and_what_to_do(error: Exception) -> None:
    found = ending(error, ["status", "--corpus", "s3://bucket/corpus"])
    assert (found.code, found.foreseen) == (FAILED, True)
    assert found.text.startswith("s3://bucket/corpus cannot be used: ")
    assert any(f"; {hint}" in found.text for hint in CONNECTIONS.values())


def test_a_refused_connection_of_the_standard_library_is_known() -> None:
    found = ended(lambda: urllib.request.urlopen("http://127.0.0.1:9/"), "http://127.0.0.1:9/")
    assert found.text.startswith("http://127.0.0.1:9/ cannot be used: ")


def test_weights_cut_short_are_told_with_the_place_that_was_named(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"w": np.zeros(8)}, weights)
    weights.write_bytes(weights.read_bytes()[:-8])
    found = ended(lambda: safetensors.numpy.load_file(weights), "sample", "--run", str(tmp_path))
    assert (found.code, found.foreseen) == (MISTAKE, True)
    assert str(tmp_path) in found.text


def test_a_gate_that_says_no_has_its_own_code() -> None:
    assert ending(GateRefused("recall@10 is 0.2"), []) == Ending(code=REFUSED, text="recall@10 is 0.2")


def on_a_worker(work: Callable[[], object]) -> Exception:
    """The error as Ray hands it on: without its frames, which are told in its text."""
    error = raised(work)
    text = "".join(traceback.format_exception(error))
    found = RayTaskError("work", text, error, "worker", 1, "127.0.0.1").as_instanceof_cause()
    assert isinstance(found, Exception)
    return found


def test_an_error_on_a_worker_is_told_as_it_would_be_here() -> None:
    asked = on_a_worker(lambda: plan.up_to((), "nosuch"))
    assert ending(asked, []) == ended(lambda: plan.up_to((), "nosuch"))
    broken = ending(on_a_worker(library_refuses), [])
    assert not broken.foreseen
    assert "cannot reshape" in broken.text
    assert " at pipeline/plan.py:" in ending(on_a_worker(our_logic_is_wrong), []).text


def test_no_library_is_imported_to_name_its_errors() -> None:
    heavy = "{'ray', 'torch', 'safetensors'} & {*sys.modules}"
    program = f"import sys, infra.cli; infra.cli.build_app(); print({heavy})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
