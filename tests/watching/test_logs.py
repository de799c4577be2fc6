"""What `open_log` reads from folders of finetune, Trainers, Lightning and TensorBoard, damaged ones included."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from isoscore_star.readers import FileContentError
from isoscore_star.watching import NoFolderError, NoLogError, RunLog, open_log, sparkline


def points(folder: Path, name: str, run: int = -1) -> list[tuple[int, float]]:
    series = open_log(folder).read().runs[run].series[name]
    return list(zip(series.steps, series.values, strict=True))


def test_finetune_while_it_runs(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    reader = None
    with log.sweep(["a", "b"]):
        log.write("begin", run="a", steps=4)
        log.write("log", run="a", step=1, loss=0.5, isoscore_star=0.2, **{"isoscore_star/layer_10": 0.1})
        reader = open_log(tmp_path)
        seen = reader.read()
        assert (seen.kind, seen.state, seen.planned, seen.finished) == ("finetune", "running", 2, False)
        assert (seen.runs[0].step, seen.runs[0].steps, seen.runs[0].state) == (1, 4, "running")
        log.write("log", run="a", step=2, loss=0.25, **{"isoscore_star/layer_02": 0.3})
        log.write("log", run="a", step=2, eval_accuracy=0.75)
        seen = reader.read()
        assert seen.runs[0].series["train/loss"].values == (0.5, 0.25)
        assert seen.runs[0].series["eval/accuracy"].steps == (2,)
        assert [name[-2:] for name in seen.runs[0].layers("train")] == ["02", "10"]
        log.write("end", run="a")
        log.write("begin", run="b", steps=4)
        seen = reader.read()
        assert [(run.name, run.state) for run in seen.runs] == [("a", "finished"), ("b", "running")]
    assert reader.read().state == "finished"
    assert reader.read().runs[0].series["train/loss"].values == (0.5, 0.25)  # nothing is read twice


def test_a_line_that_is_cut_off_waits_for_its_end(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.write("log", run="a", step=1, loss=0.5)
    file = tmp_path / "log.jsonl"
    whole = file.read_bytes()
    added = whole.replace(b'"step": 1', b'"step": 2')
    for cut in range(len(added)):
        file.write_bytes(whole + added[:cut])
        assert points(tmp_path, "train/loss") == [(1, 0.5)]
    reader = open_log(tmp_path)
    reader.read()
    with file.open("ab") as more:
        more.write(added[-1:])
    assert reader.read().runs[0].series["train/loss"].steps == (1, 2)


def test_after_a_kill_the_next_writer_begins_a_line(tmp_path: Path) -> None:
    RunLog(tmp_path).write("log", run="a", step=1, loss=0.5)
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"event": "log", "run": "a", "st')
    log = RunLog(tmp_path)
    log.write("log", run="a", step=3, loss=0.1)
    log.write("log", run="a", step=4, loss=float("nan"))
    series = open_log(tmp_path).read().runs[0].series["train/loss"]
    assert series.steps == (1, 3, 4)
    assert math.isnan(series.last)
    assert open_log(tmp_path).read().notes == ("1 line of log.jsonl cannot be read",)
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()[-2:]] == [3, 4]


def test_a_run_that_begins_again_starts_anew(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for losses in ([9.0, 8.0, 7.0], [5.0]):
        log.write("begin", run="a", steps=3)
        for step, loss in enumerate(losses):
            log.write("log", run="a", step=step, loss=loss)
    assert points(tmp_path, "train/loss") == [(0, 5.0)]


def test_a_log_that_is_replaced_is_read_anew(tmp_path: Path) -> None:
    RunLog(tmp_path).write("log", run="a", step=1, loss=0.5)
    reader = open_log(tmp_path)
    reader.read()
    (tmp_path / "new").mkdir()
    RunLog(tmp_path / "new").write("log", run="b", step=7, loss=0.5)
    (tmp_path / "new" / "log.jsonl").replace(tmp_path / "log.jsonl")
    assert [run.name for run in reader.read().runs] == ["b"]


@pytest.mark.parametrize(("error", "reason"), [(KeyboardInterrupt(), "interrupted"), (ValueError("no\nroom"), "no")])
def test_how_it_stopped(tmp_path: Path, error: BaseException, reason: str) -> None:
    with pytest.raises(type(error)), RunLog(tmp_path).sweep(["a"]):
        raise error
    seen = open_log(tmp_path).read()
    assert (seen.state, seen.finished, seen.notes) == ("stopped", True, (f"it stopped: {reason}",))


@pytest.mark.skipif(os.name != "posix", reason="asks for a process by a signal")
def test_a_process_that_was_killed(tmp_path: Path) -> None:
    code = "import os, signal, sys; from pathlib import Path; from isoscore_star.watching import RunLog\n"
    code += "with RunLog(Path(sys.argv[1])).sweep(['a']): os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    seen = open_log(tmp_path).read()
    assert (seen.state, seen.notes) == ("stopped", ("it stopped: its process is gone",))


@pytest.mark.parametrize(
    "line",
    [b"[]", b"{}", b'{"event": 3}', b"\xff\xfe", b'{"event": "log"}', b'{"event": "log", "step": "x", "loss": []}',
     b'{"event": "sweep", "runs": 3, "pid": "x"}', b'{"event": "sweep", "pid": -1, "host": null}',
     b'{"event": "begin", "steps": {}}', b'{"event": "end", "run": []}', b"[" * 5000,
     b'{"event": "log", "step": 1, "loss": 1e999}'],
)  # fmt: skip
def test_foreign_lines_end_nothing(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "log.jsonl").write_bytes(line + b'\n{"event": "log", "run": "z", "step": 5, "loss": 1.0}\n')
    seen = open_log(tmp_path).read()
    assert seen.runs[-1].series["train/loss"].last == 1.0
    json.dumps(seen.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    "line",
    ['{"event": "log", "run": "z", "step": 4, "loss": 1' + "0" * 400 + "}",
     '{"event": "log", "run": "z", "step": 1' + "0" * 400 + ', "loss": 1}',
     '{"event": "begin", "run": "z", "steps": 1' + "0" * 400 + "}",
     '{"event": "log", "run": "z", "step": NaN, "loss": 1}', '{"event": "log", "run": "z", "step": true, "loss": 1}'],
)  # fmt: skip
def test_lines_with_impossible_numbers_are_left_out_and_counted(tmp_path: Path, line: str) -> None:
    good = '{"event": "log", "run": "z", "step": 5, "loss": 0.5}'
    (tmp_path / "log.jsonl").write_text(f"{line}\n{good}\n")
    assert points(tmp_path, "train/loss") == [(5, 0.5)]
    assert open_log(tmp_path).read().notes == ("1 line of log.jsonl cannot be read",)


@pytest.mark.parametrize("field", ["global_step", "max_steps"])
@pytest.mark.parametrize("value", ['"x"', "[1]", "{}", "true", "null", "1" + "0" * 400, "1e999"])
def test_trainer_with_fields_of_another_kind(tmp_path: Path, field: str, value: str) -> None:
    rows = [{"step": 1, "loss": 0.5}]
    trainer_state(tmp_path / "checkpoint-3", 3, rows)
    file = trainer_state(tmp_path, 3, rows)
    kept = json.loads(file.read_text())
    del kept[field]
    file.write_text(json.dumps(kept)[:-1] + f', "{field}": {value}}}')
    seen = open_log(tmp_path).read()
    assert (seen.runs[0].step, seen.state) == (1, "unknown")
    assert points(tmp_path, "train/loss") == [(1, 0.5)]


def test_trainer_leaves_damaged_lines_out_and_counts_them(tmp_path: Path) -> None:
    big = 10**400
    rows = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": big}, {"step": big, "loss": 1}, {"loss": 1}, 7,
            {"step": "2", "loss": 1}, {"step": 3, "loss": 0.25}]  # fmt: skip
    trainer_state(tmp_path, 3, rows)  # type: ignore[arg-type]
    assert points(tmp_path, "train/loss") == [(1, 0.5), (3, 0.25)]
    assert open_log(tmp_path).read().notes == ("5 lines of trainer_state.json cannot be read",)


def test_lightning_leaves_damaged_lines_out_and_counts_them(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss\n1,3\nnan,3\ninf,2\nx,2\n1e999,2\n2,1\n")
    assert points(tmp_path, "train/loss") == [(1, 3.0), (2, 1.0)]
    assert open_log(tmp_path).read().notes == ("4 lines of metrics.csv cannot be read",)


def test_results_of_runs_that_ended(tmp_path: Path) -> None:
    run = {"name": "x", "metric": {"name": "f1", "value": 0.5}, "isoscore_star": 0.1, "isoscore_star_unbiased": None}
    (tmp_path / "results.json").write_text(json.dumps({"runs": [run]}))
    seen = open_log(tmp_path).read()
    assert seen.state == "finished"
    assert dict(seen.results[0]) == {
        "name": "x", "metric": "f1", "value": 0.5, "isoscore_star": 0.1, "isoscore_star_unbiased": None
    }  # fmt: skip
    RunLog(tmp_path).write("log", run="y", step=1, loss=1.0)
    (tmp_path / "results.json").write_text('{"runs": [{"name": 3}]}')
    with pytest.raises(FileContentError, match="cannot be read as the results of a fine-tuning"):
        open_log(tmp_path).read()


def trainer_state(folder: Path, step: int, history: list[dict[str, Any]], most: int = 10) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "trainer_state.json"
    file.write_text(json.dumps({"global_step": step, "max_steps": most, "log_history": history}))
    return file


def test_trainer_takes_the_last_whole_checkpoint(tmp_path: Path) -> None:
    rows = [{"step": s, "loss": 1.0 / s, "isoscore_star/layer_03": 0.1 * s, "epoch": s} for s in range(1, 6)]
    trainer_state(tmp_path / "checkpoint-2", 2, rows[:2])
    trainer_state(tmp_path / "checkpoint-10", 4, [*rows[:4], {"step": 4, "eval_loss": 0.7, "eval_runtime": 1.0}])
    (tmp_path / "checkpoint-best").mkdir()
    reader = open_log(tmp_path)
    seen = reader.read()
    assert (seen.kind, seen.state, seen.runs[0].step, seen.runs[0].steps) == ("trainer", "unknown", 4, 10)
    assert seen.runs[0].series["eval/loss"].values == (0.7,)
    assert seen.runs[0].layers("train")["train/isoscore_star/layer_03"].values == pytest.approx((0.1, 0.2, 0.3, 0.4))
    torn = trainer_state(tmp_path / "checkpoint-12", 5, rows)
    text = torn.read_text()
    torn.write_text(text[: len(text) // 2])
    assert reader.read().runs[0].step == 4
    torn.write_text(text)
    assert reader.read().runs[0].step == 5
    ended = [*rows, {"step": 10, "train_runtime": 3.0, "train_loss": 0.5}]
    trainer_state(tmp_path, 10, ended)
    seen = reader.read()
    assert seen.state == "finished"
    assert seen.runs[0].series["train/loss"].steps == (1, 2, 3, 4, 5)  # the mean of all steps is no point
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "trainer_state.json").write_text("{")
    with pytest.raises(FileContentError, match="cannot be read as the state of a Trainer"):
        open_log(damaged).read()


def test_lightning_csv(tmp_path: Path) -> None:
    place = tmp_path / "lightning_logs" / "version_3"
    place.mkdir(parents=True)
    rows = [["epoch", "step", "train_loss", "val_acc", "train/isoscore_star/layer_00"],
            [0, 1, 0.5, "", 0.25], [0, 3, "", 0.75, ""], [1, 5, 0.125, "", "nan"]]  # fmt: skip
    with (place / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
        file.write("1,7,0.0")  # about to be written
    seen = open_log(tmp_path).read()
    assert (seen.kind, seen.runs[0].name, seen.finished) == ("lightning", "version_3", False)
    assert points(tmp_path, "train/loss") == [(1, 0.5), (5, 0.125)]
    assert points(tmp_path, "eval/acc") == [(3, 0.75)]
    assert seen.to_dict()["runs"][0]["series"]["train/isoscore_star/layer_00"]["values"] == [0.25, None]
    assert points(place, "train/loss") == [(1, 0.5), (5, 0.125)]


@pytest.mark.slow  # torch's writer loads TensorFlow
def test_event_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("torch")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "runs" / "first")) as writer:
        for step in range(3):
            writer.add_scalar("train/loss", 1.0 - step / 4, step)
            writer.add_scalar("train/isoscore_star/layer_07", step / 2, step)
        writer.flush()
        reader = open_log(tmp_path)
        seen = reader.read()
        assert (seen.kind, seen.runs[0].name, seen.runs[0].step) == ("tensorboard", "first", 2)
        assert seen.runs[0].series["train/loss"].values == (1.0, 0.75, 0.5)
        writer.add_scalar("train/loss", 0.25, 3)
        writer.flush()
        assert reader.read().runs[0].step == 3
    trainer_state(tmp_path / "checkpoint-2", 2, [{"step": 1, "loss": 9.0, "eval_f1": 0.5}])
    merged = open_log(tmp_path).read()
    assert merged.kind == "trainer"
    assert merged.runs[0].series["train/loss"].steps == (0, 1, 2, 3)  # it goes further
    assert merged.runs[0].series["eval/f1"].values == (0.5,)


def test_event_files_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from isoscore_star import MissingDependencyError

    (tmp_path / "events.out.tfevents.1.host").write_bytes(b"")
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingDependencyError, match=r"pip install \"isoscore-star\[watch\]\""):
        open_log(tmp_path).read()
    trainer_state(tmp_path / "checkpoint-1", 1, [{"step": 1, "loss": 9.0}])
    (note,) = open_log(tmp_path).read().notes
    assert "isoscore-star[watch]" in note


def test_no_log(tmp_path: Path) -> None:
    with pytest.raises(NoFolderError, match="there is no such folder"):
        open_log(tmp_path / "missing")
    (tmp_path / "results.json").write_text('{"layers": []}')  # of another command
    with pytest.raises(NoLogError, match=r"holds no log; looked for log\.jsonl .*metrics\.csv .*event files"):
        open_log(tmp_path)
    with pytest.raises(NoLogError, match="is no folder"):
        open_log(tmp_path / "results.json")
    with pytest.raises(NoLogError, match="cannot be read"):
        open_log("a\0b")


def test_sparkline_bins_are_means() -> None:
    assert sparkline([0.0, 2.0, 7.0, 7.0], 2) == "▁█"
    assert sparkline([], 5) == ""
    assert sparkline([float("inf")] * 3, 2) == "!!"
    assert sparkline([-1.7e308, 1.7e308], 2) == "▁█"
    line = sparkline(list(range(1000)), 16)
    assert len(line) == 16
    assert list(line) == sorted(line)
