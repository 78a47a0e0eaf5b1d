from pathlib import Path

from tovuk_sqlite.store import generation


def made(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(name)


def test_a_file_that_is_finished_has_nothing_of_an_older_one_beside_it(tmp_path: Path) -> None:
    made(tmp_path, "2.sqlite", "2.sqlite-wal", "2.sqlite-shm", "2.sqlite.part")
    generation.finish(tmp_path / "2.sqlite")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"2.sqlite": "2.sqlite.part"}


def test_a_file_is_begun_where_nothing_is(tmp_path: Path) -> None:
    made(tmp_path, "2.sqlite.part", "2.sqlite.part-wal")
    assert generation.part(tmp_path / "2.sqlite") == tmp_path / "2.sqlite.part"
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_leaves_the_generations_and_copies_that_are_named(tmp_path: Path) -> None:
    folder = generation.folder(tmp_path, "sqlite_aa")
    made(folder, "1.sqlite", "1.sqlite-wal", "2.sqlite", "2.sqlite-wal", "3.sqlite.part", "a.staged", "b.staged")
    generation.sweep(tmp_path, "sqlite_aa", {2}, {"a"})
    assert {file.name for file in folder.iterdir()} == {"2.sqlite", "2.sqlite-wal", "a.staged"}
    generation.sweep(tmp_path, "sqlite_bb", {1}, set())
