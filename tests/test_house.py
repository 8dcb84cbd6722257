"""The plan of the house: which room may import which, and that the plan stays small enough to be drawn."""
import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# From the ground up; rooms of one floor do not know each other. `commands` are the files beside the rooms.
FLOORS = [{"paper"}, {"workflow"}, {"spectra"}, {"training", "observations"}, {"inference"}, {"evaluation"},
          {"figures"}, {"synthetic"}, {"commands"}]
FLOOR = {room: k for k, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(path for folder in ("Methodology", "src_files") for path in (ROOT / folder).rglob("*.py"))
COMMANDS = {path.stem for path in FILES if path.parent.parent == ROOT} - {"paper"}
N_BOXES, N_ARROWS = 20, 75


def room_of(path):
    if path.parent.parent == ROOT:
        return "paper" if path.stem == "paper" else "commands"
    return path.parent.name


def imported(path):
    """First names of what a file imports of this project."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module]
        yield from (name.split(".")[0] for name in names if name.split(".")[0] in {*FLOOR, *COMMANDS})


def test_imports_run_downward():
    up = [f"{path.relative_to(ROOT)} -> {name}" for path in FILES for name in set(imported(path)) - {room_of(path)}
          if name in COMMANDS or FLOOR[name] >= FLOOR[room_of(path)]]  # a command is started, not imported
    assert not up


def test_tensorflow_lives_in_one_file_and_methodology_does_without_src_files():
    for path in FILES:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        assert not names & {"tensorflow", "keras"} or path.name == "backend.py", path
        assert "synthetic" not in imported(path) or path.is_relative_to(ROOT / "src_files"), path


def test_rooms_say_what_they_are_for_and_nothing_else():
    for room in set(FLOOR) - {"paper", "commands"}:
        (init,) = ROOT.glob(f"*/{room}/__init__.py")
        tree = ast.parse(init.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree) and len(tree.body) == 1


def test_the_plan_can_be_drawn():
    """Rooms and the files at the top as boxes, with an arrow for each pair of which one imports the other."""
    def box(path):
        return "src_files" if path.is_relative_to(ROOT / "src_files") else (
            path.stem if room_of(path) == "commands" else room_of(path))

    arrows = {(box(path), name) for path in FILES for name in imported(path)}
    arrows = {(tail, "src_files" if head == "synthetic" else head) for tail, head in arrows}
    assert len({box(path) for path in FILES}) <= N_BOXES
    assert len({(tail, head) for tail, head in arrows if tail != head}) <= N_ARROWS
