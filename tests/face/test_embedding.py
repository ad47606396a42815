"""A recognizer inside of other programs: pickled, spawned, forked, bound to few threads, frozen."""

import copy
import importlib.util
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.face.drawn_graph import graph_bytes
from tests.face.drawn_yunet import yunet_bytes

import mien
from mien import Recognizer, recognize_video
from mien.data import draw_faces
from mien.face import images, network, runtime
from mien.face.detect import Detection, WholePicture, create_detector
from mien.pyinstaller import hook_folders

HANGS = 20  # seconds after which a child is ended by a signal

# Python 3.12 and later warn of every fork beside other threads.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
lists_threads = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system does not list threads")


def scene() -> np.ndarray:
    """A drawn face on grey, and a red cell that the stand-in detectors find: ``(480, 640, 3)``."""
    picture = np.full((480, 640, 3), 128, np.uint8)
    picture[80:280, 100:300] = draw_faces(7, seed=3, size=200).images[3][..., None]
    picture[352:368, 480:496] = (255, 0, 0)
    return picture


@pytest.fixture(params=["none", "yunet", "graph"])
def recognizer(request: pytest.FixtureRequest, tmp_path: Path) -> Recognizer:
    """Its detector's file is gone once it is read."""
    file = tmp_path / "drawn ü.onnx"
    file.write_bytes(yunet_bytes() if request.param == "yunet" else graph_bytes())
    made = Recognizer("nano", {"none": "none", "yunet": f"yunet:{file}", "graph": str(file)}[request.param], threads=2)
    file.unlink()
    return made


def closure(recognizer: Recognizer) -> Recognizer:
    """As Ray, Spark and joblib send what a function refers to."""
    cloudpickle = pytest.importorskip("cloudpickle")
    there: Callable[[], Recognizer] = pickle.loads(cloudpickle.dumps(lambda: recognizer))
    return there()


@pytest.mark.parametrize("way", [lambda it: pickle.loads(pickle.dumps(it)), copy.copy, copy.deepcopy, closure])
def test_a_copy_answers_alike(recognizer: Recognizer, way: Callable[[Recognizer], Recognizer]) -> None:
    recognizer.min_confidence = 0.3
    other = way(recognizer)
    assert other.recognize(scene()) == recognizer.recognize(scene())
    assert len(other.recognize(scene()).faces) == 1
    assert (other.min_confidence, other.threads) == (0.3, 2)
    assert other.network.classes == recognizer.network.classes
    assert list(other.stream([scene()] * 3)) == [other.recognize(scene())] * 3


def test_a_copy_uses_the_cores_of_its_own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    content = pickle.dumps(Recognizer("nano", "none"))
    monkeypatch.setattr("mien.face.runtime.cores", lambda: 3)
    monkeypatch.setattr("mien.face.recognizer.cores", lambda: 3)
    there = pickle.loads(content)
    assert there.threads == 3
    assert options_of(there).intra_op_num_threads == 3


@pytest.mark.parametrize("recognizer", ["graph"], indirect=True)
def test_spawned_processes_answer_alike(recognizer: Recognizer) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # whose functions are pickled with all they belong to
        answers = pool.map_async(recognizer.recognize, [scene(), scene()[:, ::-1]]).get(timeout=60)
    assert answers == [recognizer.recognize(scene()), recognizer.recognize(scene()[:, ::-1])]


class Refuses:
    """A detector that cannot be pickled."""

    name, framing = "refuses", None

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def detect(self, picture: np.ndarray) -> list[Detection]:
        return WholePicture().detect(picture)


def test_what_cannot_be_pickled_says_so() -> None:
    with pytest.raises(TypeError, match="lock"):
        pickle.dumps(Recognizer("nano", Refuses()))


def in_fork(right: Callable[[], bool]) -> str:
    """What becomes of a child process, which forked from this one and tells whether all is right there."""
    number = os.fork()
    if number == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(HANGS)
        try:
            os._exit(0 if right() else 3)
        except BaseException as error:
            print(error, file=sys.__stderr__)
            os._exit(4)
    _, status = os.waitpid(number, 0)
    if os.WIFSIGNALED(status):
        return "hangs" if os.WTERMSIG(status) == signal.SIGALRM else f"signal {os.WTERMSIG(status)}"
    return {0: "right", 3: "another answer"}.get(os.WEXITSTATUS(status), "an error")


@forks
def test_a_fork_answers_alike(recognizer: Recognizer) -> None:
    picture = scene()
    before = recognizer.recognize(picture)

    def video() -> bool:
        frames = recognize_video(iter([(0.0, picture), (0.1, picture)]), recognizer)
        return [frame.faces[0].face for frame in frames] == list(before.faces) * 2

    assert in_fork(lambda: recognizer.recognize(picture) == before) == "right"
    assert in_fork(lambda: list(recognizer.stream([picture] * 9)) == [before] * 9) == "right"
    assert in_fork(lambda: in_fork(lambda: recognizer.recognize(picture) == before) == "right") == "right"
    assert in_fork(lambda: pickle.loads(pickle.dumps(recognizer)).recognize(picture) == before) == "right"
    assert in_fork(video) == "right"
    assert recognizer.recognize(picture) == before


@forks
def test_threads_of_a_fork_share_what_was_made_before(recognizer: Recognizer) -> None:
    picture = scene()
    before = recognizer.recognize(picture)

    def by_threads() -> bool:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(recognizer.recognize, [picture] * 8)) == [before] * 8

    assert in_fork(by_threads) == "right"


@forks
def test_a_recognizer_made_in_a_fork_answers_alike() -> None:
    before = Recognizer("nano", "none", threads=2).recognize(scene())
    assert in_fork(lambda: Recognizer("nano", "none", threads=2).recognize(scene()) == before) == "right"


@forks
def test_a_pool_of_forks() -> None:
    recognizer = Recognizer("nano", "none", threads=2)
    before = recognizer.recognize(scene())
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(recognizer.recognize, [scene()] * 4).get(timeout=HANGS) == [before] * 4


@forks
def test_a_fork_while_another_thread_recognizes() -> None:
    recognizer = Recognizer("nano", "none", threads=2)
    before, ended = recognizer.recognize(scene()), threading.Event()

    def work() -> None:
        while not ended.is_set():
            recognizer.recognize(scene())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert [in_fork(lambda: recognizer.recognize(scene()) == before) for _ in range(3)] == ["right"] * 3
    finally:
        ended.set()
        thread.join()


@forks
def test_a_fork_while_another_thread_decodes(tmp_path: Path) -> None:
    Image.fromarray(scene()).save(tmp_path / "a.png")
    filters = list(warnings.filters)

    def reads() -> bool:
        return bool((images.read_image(tmp_path / "a.png") == scene()).all()) and warnings.filters == filters

    with images._SILENCE, images._SILENCE._lock:
        result = in_fork(reads)
    assert result == "right"


EXITS = """
import os, signal, sys
import mien
import numpy as np

recognizer = mien.Recognizer("nano", "none", threads=2)
if sys.argv[1] == "used":
    recognizer.recognize(np.zeros((64, 64), np.uint8))
mien.kept, np.kept = recognizer, recognizer.network  # until the last modules end
number = os.fork()
if number == 0:
    signal.alarm(20)
    sys.exit(7)  # the interpreter ends all objects
sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status := os.waitpid(number, 0)[1]) else 1)
"""


@forks
@pytest.mark.parametrize("before", ["used", "unused"])
def test_a_fork_that_recognizes_nothing_ends(before: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", EXITS, before]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (7, "")


def options_of(recognizer: Recognizer) -> Any:
    """The options of the session that names emotions."""
    return recognizer.network._session._here().get_session_options()


@pytest.mark.parametrize("threads", [1, 3, None])
def test_sessions_start_so_many_threads_and_none_of_them_spins(threads: int | None) -> None:
    options = options_of(Recognizer("nano", "none", threads=threads))
    assert options.intra_op_num_threads == (threads or runtime.cores())
    assert options.inter_op_num_threads == 1
    for kind in ("intra", "inter"):
        assert options.get_session_config_entry(f"session.{kind}_op.allow_spinning") == "0"


def test_threads_that_wait_take_no_processor_time() -> None:
    recognizer = Recognizer("nano", "none", threads=4)
    spent = []
    for _ in range(5):
        recognizer.recognize(scene())
        before = time.process_time()
        time.sleep(0.05)
        spent.append(time.process_time() - before)
    assert min(spent) < 0.01


class Watched(WholePicture):
    """Remembers how many threads there were in each search, and which one searched."""

    def __init__(self) -> None:
        self.running: list[int] = []
        self.searched_in: set[int] = set()

    def detect(self, picture: np.ndarray) -> list[Detection]:
        self.running.append(len(os.listdir("/proc/self/task")))
        self.searched_in.add(threading.get_ident())
        return super().detect(picture)


def threads_left(expected: int) -> int:
    """Threads of this process; one that has ended is listed for a moment, so more than expected are waited for."""
    until = time.monotonic() + 5
    while (count := len(os.listdir("/proc/self/task"))) > expected and time.monotonic() < until:
        time.sleep(0.01)
    return count


@lists_threads
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_bind_all_that_is_started(threads: int) -> None:
    picture = scene()  # drawn before threads are counted: OpenCV, which draws it, starts its own at first use
    before = len(os.listdir("/proc/self/task"))
    recognizer = Recognizer("nano", detector := Watched(), threads=threads)
    assert len(os.listdir("/proc/self/task")) == before + threads - 1
    assert len(list(recognizer.stream([picture] * 12))) == 12
    assert threads_left(before + threads - 1) == before + threads - 1
    assert len(list(recognize_video(((number / 10, picture) for number in range(12)), recognizer))) == 12
    if threads == 1:
        assert set(detector.running) == {before}
        assert detector.searched_in == {threading.get_ident()}
    else:  # those that search, and one that decodes
        assert max(detector.running) <= before + (threads - 1) + threads + 1
    assert threads_left(before + threads - 1) == before + threads - 1


@lists_threads
@pytest.mark.parametrize("kind", ["yunet", "graph"])
def test_detectors_start_no_thread(kind: str, tmp_path: Path) -> None:
    (file := tmp_path / "a.onnx").write_bytes(yunet_bytes() if kind == "yunet" else graph_bytes())
    before = len(os.listdir("/proc/self/task"))
    create_detector(f"yunet:{file}" if kind == "yunet" else str(file)).detect(scene())
    assert len(os.listdir("/proc/self/task")) == before


def test_pyinstaller_is_told_what_to_collect() -> None:
    """By stand-ins for PyInstaller's own functions, which name what they would collect."""
    helpers = ModuleType("PyInstaller.utils.hooks")
    for name in ("collect_data_files", "collect_submodules", "copy_metadata"):
        setattr(helpers, name, lambda package, name=name: [(name, package)])
    found: dict[str, dict[str, Any]] = {}
    with pytest.MonkeyPatch.context() as patch:
        for module in (ModuleType("PyInstaller"), ModuleType("PyInstaller.utils"), helpers):
            patch.setitem(sys.modules, module.__name__, module)
        for path in (path for folder in hook_folders() for path in Path(folder).glob("hook-*.py")):
            exec(compile(path.read_text(), path, "exec"), found.setdefault(path.stem, {}))
    assert ("collect_data_files", "mien") in found["hook-mien"]["datas"]
    assert found["hook-mien"]["hiddenimports"] == [("collect_submodules", "mien.face")]
    commands = found["hook-mien.cli"]["hiddenimports"]
    assert {"mien.cli.predict", "mien.cli.video", "mien.cli.installation"} <= set(commands)
    assert not [name for name in commands if importlib.util.find_spec(name) is None]
    assert "mien.cli.laboratory" not in commands  # which would bring PyTorch
    assert Path(mien.__file__).parent in network.ASSETS.parents  # the data lie in the package
