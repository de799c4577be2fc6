"""Points that are read once have the numbers of those that are read as often as one likes, in parts or in one piece."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from full_disk import no_file_above

import isoscore_star as iso

pytest.importorskip("typer")
pytest.importorskip("safetensors")

from isoscore_star.cli import main
from isoscore_star.parts import Part, Plan, identity, merged, plan, read_in_parts, read_part
from isoscore_star.readers import open_clouds

DIM = 6


def sequences(count: int, tokens: int = 7, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, tokens, DIM)) * np.geomspace(2, 0.5, DIM) + rng.normal(size=(count, 1, DIM))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Work in a folder of its own; return the JSON of a command that succeeds."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> dict[str, Any]:
        code = main([*arguments, "--json"])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return json.loads(out)

    return run


def halves_score(x: np.ndarray) -> float:
    a, b = (np.cov(x[half::2].reshape(-1, DIM).T) for half in (0, 1))
    return float((np.trace(a) * np.trace(b) / np.sum(a * b) - 1) / (DIM - 1))


def error_without_blocks(x: np.ndarray, blocks: np.ndarray, count: int) -> float:
    """Give Busing's jackknife of log PR, by computing anew without each block, as an error of the score."""
    ratio = [np.log(1 + (DIM - 1) * halves_score_of(x, np.flatnonzero(blocks != b))) for b in range(count)]
    sizes = np.array([np.count_nonzero(blocks == b) for b in range(count)])
    h, whole = len(x) / sizes, np.log(1 + (DIM - 1) * halves_score_of(x, np.arange(len(x))))
    pseudo = h * whole - (h - 1) * np.array(ratio)
    centre = count * whole - np.sum((1 - 1 / h) * ratio)
    return float(np.sqrt(np.mean((pseudo - centre) ** 2 / (h - 1))) * np.exp(whole) / (DIM - 1))


def halves_score_of(x: np.ndarray, kept: np.ndarray) -> float:
    a, b = (np.cov(x[kept[kept % 2 == half]].reshape(-1, DIM).T) for half in (0, 1))
    return float((np.trace(a) * np.trace(b) / np.sum(a * b) - 1) / (DIM - 1))


def test_independent_points_have_the_same_bits(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", sequences(900)[:, 0])
    twice, once = run("measure", "x.npy"), run("measure", "x.npy", "--checkpoint", "x.part")
    assert once == twice
    assert main(["measure", "x.npy", "--checkpoint", "x.part", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == once  # from the part alone
    assert err == "note: x.part holds the whole result\n"


def test_sequences(run: Any) -> None:
    x = sequences(403)
    np.save("x.npy", x)
    found = run("measure", "x.npy", "--checkpoint", "x.part")["union"]
    usual = run("measure", "x.npy")["union"]
    assert found["unbiased_score"] == pytest.approx(halves_score(x), rel=1e-12)
    for name in ("score", "unbiased_score", "independent_score"):
        assert found[name] == pytest.approx(usual[name], rel=1e-12)
    assert (found["groups"], found["group_count"]) == ("axis 0", 403)
    assert found["longest_points"]["trace_share"] == pytest.approx(usual["longest_points"]["trace_share"], rel=1e-9)
    # 403 sequences in runs of 403 // 20 = 20 in 20 blocks; the last three begin the first block anew.
    blocks = np.arange(403) // 20 % 20
    assert found["standard_error"] == pytest.approx(error_without_blocks(x, blocks, 20), rel=1e-9)


def test_labels_in_any_order_and_a_mask(run: Any) -> None:
    rng = np.random.default_rng(3)
    x = sequences(200)
    order = rng.permutation(1400)
    mask = rng.random(1400) > 0.3
    np.savez("x.npz", x=x.reshape(-1, DIM)[order], labels=np.repeat(np.arange(200), 7)[order], mask=mask[order])
    options = ("--key", "x", "--groups", "labels", "--mask", "mask")
    found = run("measure", "x.npz", *options, "--checkpoint", "x.part")["union"]
    usual = run("measure", "x.npz", *options)["union"]
    assert found["unbiased_score"] == pytest.approx(usual["unbiased_score"], rel=1e-12)
    assert found["count"] == np.count_nonzero(mask)


def test_layers(run: Any) -> None:
    x = sequences(200)
    np.savez("x.npz", a=x, b=x * np.linspace(1, 3, DIM))
    options = ("--key", "a", "--key", "b", "--by-layer")
    found, usual = run("measure", "x.npz", *options, "--checkpoint", "x.part"), run("measure", "x.npz", *options)
    for ours, its in zip([found["union"], *found["layers"]], [usual["union"], *usual["layers"]], strict=True):
        assert ours["unbiased_score"] == pytest.approx(its["unbiased_score"], rel=1e-12)
        assert ours.get("layer") == its.get("layer")
    assert run("merge", "x.part")["layers"] == found["layers"]


@pytest.mark.parametrize("grouped", [True, False])
def test_parts_are_the_whole(run: Any, grouped: bool) -> None:
    x = sequences(640) if grouped else sequences(640)[:, 0]
    for number, part in enumerate(np.split(x, [200, 360, 500])):  # even numbers of sequences, whose halves stay
        np.save(f"{number}.npy", part)
        run("measure", f"{number}.npy", "--checkpoint", f"{number}.part")
    np.save("x.npy", x)
    found, whole = run("merge", "3.part", "0.part", "2.part", "1.part")["union"], run("measure", "x.npy")["union"]
    for name in ("score", "unbiased_score"):
        assert found[name] == pytest.approx(whole[name], rel=1e-12)
    assert (found["count"], found["group_count"]) == (whole["count"], whole["group_count"])
    # An error of 20 blocks is known to 1/√(2·19) = 16 %: three times that, for a fixed seed.
    assert found["standard_error"] == pytest.approx(whole["standard_error"], rel=0.5 if grouped else 1e-9)
    once = run("merge", "0.part", "1.part", "2.part", "3.part", "-o", "all.part")
    assert run("merge", "all.part")["union"] == once["union"]


def test_a_memory_budget(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    np.save("x.npy", rng.normal(size=(400, 5, 128)).astype(np.float32))
    exact = run("measure", "x.npy")["union"]
    assert main(["measure", "x.npy", "--memory", "3.5MB", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "note: 10 blocks instead of 20 fit into 3.50 MB" in err  # 8·128²·(2·10 + 6) bytes are 3.4 MB
    assert json.loads(out)["union"]["unbiased_score"] == pytest.approx(exact["unbiased_score"], rel=1e-6)
    assert main(["measure", "x.npy", "--memory", "4MB", "--json"]) == 0
    assert "12 blocks" in capsys.readouterr().err
    assert main(["measure", "x.npy", "--memory", "1kB"]) == 1
    assert "which a sketch of 64 columns exceeds, too" in capsys.readouterr().err


def test_plan() -> None:
    assert plan(768, 1, True, None) == Plan(20)
    assert plan(768, 1, False, None) == Plan(1)
    assert "no standard error in one pass: 8 blocks need 3.0 GB" in plan(4096, 1, True, None).note
    assert plan(8192, 1, True, 10**9).sketch == 256  # 8·8192·256·(2·20 + 6) = .77 GB; of 512 columns 1.5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda: np.save("x.npy", sequences(41)), r"x\.npy has changed since"),
        (lambda: None, r"groups was 'auto', is now 'none'"),
    ],
)
def test_other_points_are_noticed(run: Any, capsys: pytest.CaptureFixture[str], change: Any, says: str) -> None:
    import re

    np.save("x.npy", sequences(40))
    run("measure", "x.npy", "--checkpoint", "x.part")
    change()
    options = ["--groups", "none"] if "none" in says else []
    assert main(["measure", "x.npy", *options, "--checkpoint", "x.part"]) == 2
    err = capsys.readouterr().err
    assert re.search(f"^error: --checkpoint: x.part is of other points or options: .*{says}", err)
    assert err.count("\n") == 1


def test_parts_that_do_not_fit(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", sequences(40))
    np.save("points.npy", sequences(40)[:, 0])
    np.save("wide.npy", np.random.default_rng(0).normal(size=(40, 3, 9)))
    for name in ("x", "points", "wide"):
        run("measure", f"{name}.npy", "--checkpoint", f"{name}.part")
    damaged = bytearray(Path("x.part").read_bytes())
    damaged[-100] ^= 1
    Path("damaged.part").write_bytes(damaged)
    for parts, says in (
        (["x.part", "x.part"], "x.part: comes twice"),
        (["x.part", "points.part"], "points.part: does not fit the first part: groups 'none', of the first 'axis 0'"),
        (["x.part", "wide.part"], "wide.part: does not fit the first part: dimensions 9, of the first 6"),
        (["x.part", "damaged.part"], "damaged.part: is not a part of a measurement, or damaged"),
        (["x.part", "x.npy"], "x.npy: is not a part of a measurement, or damaged"),
    ):
        assert main(["merge", *parts]) == 1
        err = capsys.readouterr().err
        assert err.startswith(f"error: {says}")
        assert err.count("\n") == 1


class StopError(Exception):
    """Stops the reading, as a kill does."""


def test_a_part_that_is_not_finished_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40_000, 512)).astype(np.float32))
    clouds = open_clouds([tmp_path / "x.npy"])
    seen = []

    def stop(rows: int) -> None:
        seen.append(rows)
        if len(seen) == 4:
            raise StopError

    path = tmp_path / "x.part"
    with pytest.raises(StopError):
        read_in_parts(Part({}, 512, [""], Plan(1)), clouds, path, seconds=0, progress=stop)
    part = read_part(path)
    assert (part.finished, part.rows) == (False, sum(seen[1:3]))
    with pytest.raises(iso.InvalidValueError, match=r"part 1: is not finished: .* rows of its source 1 are read"):
        merged([part])
    told: list[str] = []
    whole = read_in_parts(Part({}, 512, [""], Plan(1)), clouds, path, resumed=told.append).measurement()
    assert told == [f"{path} goes on after {part.rows:,} rows"]
    assert whole == read_in_parts(Part({}, 512, [""], Plan(1)), clouds).measurement()


def test_identity_of_folders_and_patterns(tmp_path: Path) -> None:
    for name in ("a-10.npy", "a-9.npy"):
        np.save(tmp_path / name, np.zeros((2, 2)))
    (tmp_path / ".hidden").touch()
    (tmp_path / "run.part").touch()  # no format of points: a checkpoint may lie beside them
    for place in (tmp_path, tmp_path / "a-*.npy"):
        found = identity([place, "a key"])
        assert [Path(str(name)).name for name, *_ in found] == ["a-9.npy", "a-10.npy", "a key"]


def test_a_shard_that_changes_or_comes_is_noticed(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for number, part in enumerate(np.split(sequences(40), 2)):
        np.save(f"x-{number}.npy", part)
    command = ["measure", "x-*.npy", "--checkpoint", "x.part", "--json"]
    assert main(command) == 0
    np.save("x-1.npy", sequences(21))
    assert main(command) == 2
    assert "x-1.npy has changed since" in capsys.readouterr().err
    Path("x.part").unlink()
    assert main(command) == 0
    np.save("x-2.npy", sequences(4))
    assert main(command) == 2
    assert "x-2.npy is new" in capsys.readouterr().err


def test_points_come_once(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, name in enumerate("ab"):
        np.save(f"{name}.npy", sequences(40, seed=seed)[:, 0])
        run("measure", f"{name}.npy", "--checkpoint", f"{name}.part")
    run("merge", "a.part", "b.part", "-o", "all.part")
    run("measure", "a.npy", "b.npy", "--checkpoint", "ab.part")
    run("measure", "a.npy", "--memory", "1GB", "--checkpoint", "again.part")
    Path("copy.npy").write_bytes(Path("a.npy").read_bytes())
    run("measure", "copy.npy", "--checkpoint", "copy.part")
    for parts in (("all.part", "b.part"), ("ab.part", "a.part"), ("a.part", "again.part"), ("a.part", "copy.part")):
        assert main(["merge", *parts]) == 1
        assert f"{parts[1]}: holds points of " in capsys.readouterr().err
    assert main(["measure", "a.npy", "--checkpoint", "all.part"]) == 2
    assert "it holds merged parts" in capsys.readouterr().err
    assert main(["merge", "a.part", "b.part", "-o", "b.part"]) == 2
    assert "b.part is one of the parts" in capsys.readouterr().err


@pytest.mark.parametrize(("count", "size"), [(50, 2), (24, 4), (20, 3), (35, 1)])
def test_many_small_parts_have_a_score_and_an_error(tmp_path: Path, count: int, size: int) -> None:
    x = sequences(count * size)
    parts = []
    for number in range(count):
        np.save(tmp_path / f"{number}.npy", x[number * size : (number + 1) * size])
        clouds = open_clouds([tmp_path / f"{number}.npy"], groups="auto")
        parts.append(read_in_parts(Part({"number": number}, DIM, [""], Plan(20)), clouds))
    found, whole = merged(parts).measurement(), iso.measure(x)
    assert (found.group_count, found.count) == (count * size, whole.count)
    assert found.standard_error == pytest.approx(whole.standard_error, rel=0.5)  # 16 % an error, as above
    # Other halves of the same groups: of independent halves, apart by at most a few errors.
    assert abs(found.unbiased_score - whole.unbiased_score) < 4 * whole.standard_error


@pytest.mark.parametrize("count", [8, 11, 16, 39])
def test_few_groups_have_an_error(run: Any, count: int) -> None:
    x = sequences(count)
    np.save("x.npy", x)
    found = run("measure", "x.npy", "--memory", "1GB")["union"]
    assert found["unbiased_score"] == pytest.approx(halves_score(x), rel=1e-12)
    blocks = np.arange(count) % 20
    assert found["standard_error"] == pytest.approx(error_without_blocks(x, blocks, min(count, 20)), rel=1e-9)


def test_groups_without_points_are_not_counted(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    mask = np.ones((100, 7))
    mask[::2] = 0
    mask[::4] = 1
    np.savez("x.npz", x=sequences(100), mask=mask, none=np.zeros((100, 7)))
    options = ("measure", "x.npz", "--key", "x", "--memory", "1GB")
    found = run(*options, "--mask", "mask")["union"]
    assert found["group_count"] == 75
    assert main([*options, "--mask", "none"]) == 1
    assert "needs at least 2 points; got 0" in capsys.readouterr().err


def test_a_checkpoint_in_the_folder_that_is_measured(run: Any) -> None:
    Path("points").mkdir()
    np.save("points/x.npy", sequences(40))
    command = ("measure", "points", "--groups", "none", "--checkpoint", "points/run.part", "--json")
    assert main(command) == 0
    Path("points/.hidden").touch()
    assert main(command) == 0


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("x.npy", "--checkpoint: x.npy is no part of a measurement, or a damaged one. Choose another file"),
        ("folder", "--checkpoint: folder is a folder"),
        ("x.npy/x.part", "--checkpoint: cannot write to x.npy"),
        ("/proc/x.part", "--checkpoint: cannot write to /proc"),
    ],
)
def test_where_no_checkpoint_can_be(run: Any, capsys: pytest.CaptureFixture[str], path: str, says: str) -> None:
    Path("folder").mkdir()
    np.save("x.npy", sequences(40))
    before = Path("x.npy").read_bytes()
    assert main(["measure", "x.npy", "--checkpoint", path]) in (1, 2)
    err = capsys.readouterr().err
    assert err.startswith(f"error: {says}")
    assert err.count("\n") == 1
    assert Path("x.npy").read_bytes() == before


def test_a_disk_that_fills_up_loses_the_checkpoint_alone(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", sequences(40, tokens=1000))
    whole = run("measure", "x.npy", "--memory", "1GB")
    with no_file_above(20_000):  # bytes: the empty state fits, the full one does not
        assert main(["measure", "x.npy", "--checkpoint", "x.part", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == whole
    assert "cannot write to" in err
    assert "The measurement goes on without it" in err


def test_two_commands_on_one_checkpoint(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40_000, 512)).astype(np.float32))
    clouds, path = open_clouds([tmp_path / "x.npy"]), tmp_path / "x.part"

    def replace(rows: int) -> None:
        Part({"of": "another"}, 512, [""], Plan(1)).write(path)

    with pytest.raises(iso.InvalidValueError, match="was replaced by another command"):
        read_in_parts(Part({}, 512, [""], Plan(1)), clouds, path, seconds=0, progress=replace)


def test_columns_of_parts_are_in_one_order(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    x = sequences(40)[:, 0]
    for name, order in (("a", range(DIM)), ("b", range(DIM)), ("c", range(DIM - 1, -1, -1))):
        rows = x + ord(name)
        head = ",".join(f"emb_{i}" for i in order)
        np.savetxt(f"{name}.csv", rows[:, list(order)], delimiter=",", header=head, comments="")
        assert main(["measure", f"{name}.csv", "--checkpoint", f"{name}.part"]) == 0
    capsys.readouterr()
    assert run("merge", "a.part", "b.part")["columns"] == [f"emb_{i}" for i in range(DIM)]
    assert main(["merge", "a.part", "c.part"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: c.part: does not fit the first part: columns ['emb_5', ")
    assert err.count("\n") == 1
