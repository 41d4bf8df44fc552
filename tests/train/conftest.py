"""Trainings of seconds: one thread, discs for anatomy, no pictures unless a test draws."""

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from train_helpers import RECIPE, Discs, Log  # noqa: E402

from sctseg7t.train import curves  # noqa: E402
from sctseg7t.train.loop import train  # noqa: E402
from sctseg7t.train.tasks.cord import CordTask  # noqa: E402
from sctseg7t.train.tasks.locator import LocatorTask  # noqa: E402
from sctseg7t.zoo.manifest import PACKAGE_DIR  # noqa: E402


def pytest_collection_modifyitems(items):
    for item in items:
        if "/tests/train/" in item.path.as_posix():
            item.add_marker(pytest.mark.train)
            # torch announces another exporter; the one in use folds batch normalisation, which is wanted.
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))


@pytest.fixture(scope="session", autouse=True)
def small_trainings():
    """Discs in place of the anatomy ``parametric``; curves are not drawn; the same bits on any machine."""

    def made(simulator, discs):
        return lambda self, recipe, *args: discs if recipe.anatomy == ["parametric"] else simulator(self, recipe, *args)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for task, name in ((CordTask, "cord"), (LocatorTask, "locator")):
            patch.setattr(task, "simulator", made(task.simulator, Discs(name)))
        patch.setattr(curves, "draw", lambda run, recipe: None)
        patch.delenv("SCT7T_MANIFEST", raising=False)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def run(small_trainings, tmp_path_factory):
    """A finished run of six steps."""
    out = tmp_path_factory.mktemp("run")
    train(RECIPE, {}, out, log=Log())
    return out


@pytest.fixture
def half(tmp_path):
    """Folder of a run that was broken off after three of its six steps."""
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, {}, tmp_path, log=Log(stop_at="step 3: "))
    return tmp_path


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "zoo/models.json"
    path.parent.mkdir()
    path.write_bytes((PACKAGE_DIR / "models.json").read_bytes())
    return path
