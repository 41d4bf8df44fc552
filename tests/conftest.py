"""What several test modules share: the example scan, a small cut of it, the command, the development scans."""

import os
import shutil
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

# The workers share the cores: threads of their libraries would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def _interruptible():
    """Ctrl-C works in tests also where the suite runs in a shell's background, which ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_settings():
    """What a test, or a benchmark that it calls, sets in the environment ends with it: workers run other tests next."""
    before = {name: value for name, value in os.environ.items() if name.startswith("SCT7T_")}
    yield
    for name in {name for name in os.environ if name.startswith("SCT7T_")} - set(before):
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def root():
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def example():
    """Path of the shipped example scan (read only)."""
    return ROOT / "examples" / "t2s.nii.gz"


@pytest.fixture(scope="session")
def data_dir():
    """Folder of the development scans: SCT7T_DATA, else ../shared/data."""
    folder = Path(os.environ.get("SCT7T_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "cord").is_dir():
        pytest.skip(f"no development scans in {folder} (set SCT7T_DATA)")
    return folder


@pytest.fixture(scope="session")
def small(example, tmp_path_factory):
    """Path of three slices around the example's cord: enough for what is not about accuracy."""
    path = tmp_path_factory.mktemp("small") / "t2s.nii.gz"
    nib.save(nib.load(example).slicer[40:160, 40:160, 3:6], path)
    return path


@pytest.fixture
def scan(small, tmp_path):
    """A fresh copy of ``small``, alone in its folder."""
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / "t2s.nii.gz"
    path.write_bytes(small.read_bytes())
    return path


@pytest.fixture
def call(capsys):
    """Run a command's ``main`` in this process: (exit code, stdout, stderr)."""

    def run(main, argv):
        capsys.readouterr()
        return (main(argv), *capsys.readouterr())

    return run


@pytest.fixture
def deepseg(call):
    """Run sct7t_deepseg in this process: (exit code, stdout, stderr)."""
    from sctseg7t.cli.deepseg import main

    def run(*argv):
        argv = [str(arg) for arg in argv]
        if not {"-device", "--device"} & set(argv):
            # One device and one thread: results must not depend on the machine.
            argv += ["-device", "cpu", "-threads", "1"]
        return call(main, argv)

    return run


@pytest.fixture(scope="session")
def open_cpu():
    """Open a segmenter on one CPU thread; the same task and options are opened once a session."""
    from sctseg7t.inference.pipeline import Options, open_segmenter

    known = {}

    def open_(task="gm_sc", **options):
        key = (task, repr(sorted(options.items())))
        if key not in known:
            known[key] = open_segmenter(task, device="cpu", options=Options(**options), threads=1)
        return known[key]

    return open_


@pytest.fixture(scope="session")
def dice():
    def measure(a, b):
        a, b = np.asarray(a) > 0.5, np.asarray(b) > 0.5
        return 2 * (a & b).sum() / max(a.sum() + b.sum(), 1)

    return measure


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium: CHROMIUM names another than the system's."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except sync_api.Error as err:
            pytest.skip(f"no Chromium starts here ({str(err).splitlines()[0]})")
        yield browser
        browser.close()
