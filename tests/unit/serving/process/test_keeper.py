"""A router follows the ledger, ignores what is older, and keeps the last good state while the lake is unavailable."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from absa.adapters.lake_stores import FolderLake
from absa.adapters.package_store import PackageStore
from absa.errors import UnavailableError
from absa.inference.package import package_digest
from absa.ledger.record import LedgerRecord
from absa.ledger.routing import Arm, TrafficPlan, single
from absa.ledger.state import State
from absa.ledger.store import Ledger
from serving.process.keeper import Keeper
from serving.replica_state import read_state, write_state
from tests.toy_package import build_toy_package


@dataclass
class House:
    """A lake with a ledger and packages, and a keeper that can be made again."""

    root: Path
    now: float = 0.0
    lake: FolderLake = field(init=False)
    digests: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lake = FolderLake(self.root / "lake")
        for seed, version in enumerate(("1", "2")):
            self.build(version, seed=seed)

    def build(self, version: str, *, seed: int) -> str:
        self.digests[version] = PackageStore(self.lake).put(build_toy_package(self.root / "built", seed=seed))
        return self.digests[version]

    def keeper(self, lake: FolderLake | None = None, packages: FolderLake | None = None) -> Keeper:
        return Keeper(
            Ledger(lake or self.lake),
            lake_uri=self.lake.uri,
            packages=PackageStore(packages or lake or self.lake),
            models=self.root / "models",
            path=self.root / "state.json",
            clock=lambda: self.now,
        )

    def append(self, plan: TrafficPlan, digests: dict[str, str] | None = None) -> LedgerRecord:
        head = Ledger(self.lake).head()
        return Ledger(self.lake).append(
            expected=head.number if head else 0,
            actor="test",
            action="traffic",
            reason="test",
            state=State(champion=plan.champion.version, plan=plan),
            versions=digests or self.digests,
        )


class AwayLake(FolderLake):
    """A lake that is unavailable. `listed` counts requests for files of a package."""

    listed = 0

    def read(self, key: str) -> bytes:
        raise UnavailableError("the lake does not answer")

    def exists(self, key: str) -> bool:
        raise UnavailableError("the lake does not answer")

    def list(self, prefix: str) -> list[str]:
        self.listed += 1
        raise UnavailableError("the lake does not answer")


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def ab(share: float) -> TrafficPlan:
    arms = (Arm(name="champion", version="1", share=1 - share), Arm(name="challenger", version="2", share=share))
    return TrafficPlan(mode="ab", experiment="e", salt="s", arms=arms)


def test_empty_ledger_gives_no_plan(house: House) -> None:
    keeper = house.keeper()
    keeper.step()
    assert keeper.state.plan is None
    assert keeper.last_error is None


def test_head_comes_with_packages_of_its_versions(house: House) -> None:
    house.append(single("1"))
    house.append(ab(0.25))
    keeper = house.keeper()
    keeper.step()
    state = read_state(house.root / "state.json")
    assert state is not None
    assert (state.revision, state.plan, state.errors) == (2, ab(0.25), {})
    assert {package_digest(Path(folder)) for folder in state.folders.values()} == set(house.digests.values())


def test_unavailable_lake_leaves_last_good_state(house: House) -> None:
    house.append(single("1"))
    keeper = house.keeper()
    keeper.step()
    away = house.keeper(lake=AwayLake(house.root / "lake"))  # a router that restarts meanwhile
    away.step()
    assert away.state == keeper.state
    assert away.state.folders
    assert "does not answer" in str(away.last_error)


def test_restarted_router_uses_its_own_copies(house: House) -> None:
    house.append(single("1"))
    house.keeper().step()
    away = AwayLake(house.root / "lake")
    restarted = house.keeper(packages=away)
    restarted.step()
    assert restarted.state.errors == {}
    assert away.listed == 0


def test_cut_ledger_does_not_restore_older_plan(house: House) -> None:
    house.append(single("1"))
    house.append(ab(0.5))
    keeper = house.keeper()
    keeper.step()
    house.lake.delete("ledger/0000000002.json")
    keeper.step()
    assert (keeper.state.revision, keeper.state.plan) == (2, ab(0.5))
    assert keeper.last_error is not None


def test_shorter_ledger_is_a_problem_until_restored(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.append(single("1"))
    house.append(ab(0.5))
    keeper = house.keeper()
    keeper.step()
    lost = house.lake.read("ledger/0000000002.json")
    house.lake.delete("ledger/0000000002.json")
    keeper.step()
    restarted = house.keeper()
    restarted.step()
    problem = str(restarted.state.problem)
    assert problem.startswith("the lake lost ledger record 2, so this router keeps its last plan: restore the missing")
    assert problem.endswith(f"delete serving/replicas/{house.root.name}/state.json in its home, and start it")
    assert problem in caplog.text
    house.append(single("2"))
    keeper.step()
    assert str(keeper.state.problem).startswith("the lake has another ledger record 2 than before, so")
    assert keeper.state.plan == ab(0.5)
    house.lake.write("ledger/0000000002.json", lost)
    keeper.step()
    assert (keeper.state.problem, keeper.last_error) == (None, None)


def test_state_of_earlier_release_takes_the_hash(house: House) -> None:
    house.append(single("1"))
    keeper = house.keeper()
    keeper.step()
    write_state(house.root / "state.json", replace(keeper.state, hash=""))
    again = house.keeper()
    again.step()
    assert (again.state.problem, again.state.hash) == (None, keeper.state.hash)


def test_state_of_another_lake_is_ignored(house: House) -> None:
    house.append(single("1"))
    house.keeper().step()
    other = FolderLake(house.root / "other")
    keeper = Keeper(
        Ledger(other),
        lake_uri=other.uri,
        packages=PackageStore(other),
        models=house.root / "models",
        path=house.root / "state.json",
    )
    keeper.step()
    assert keeper.state.revision == 0


def test_files_with_other_digest_are_refused(house: House) -> None:
    house.lake.write(f"packages/{house.digests['1']}/model.onnx", b"rot")
    house.append(single("1"))
    keeper = house.keeper()
    keeper.step()
    assert f"expected {house.digests['1']}" in keeper.state.errors["1"]
    assert keeper.state.folders == {}
    assert list((house.root / "models").iterdir()) == []


@pytest.mark.parametrize("digest", ["../../escape", ""])
def test_ledger_digest_cannot_name_a_path(house: House, digest: str) -> None:
    house.append(single("1"), {"1": digest})
    keeper = house.keeper()
    keeper.step()
    assert f"64 hex digits, got {digest!r}" in keeper.state.errors["1"]
    assert list((house.root / "models").iterdir()) == []


def test_absent_package_says_how_to_copy_it(house: House) -> None:
    """The ledger of an earlier release, whose packages are in MLflow alone."""
    house.append(single("1"))
    keeper = house.keeper()
    keeper.step()
    house.append(ab(0.5), {"2": "0" * 64})
    keeper.step()
    assert "`evergreen ledger packages`" in keeper.state.errors["2"]
    assert list(keeper.state.folders) == [house.digests["1"]]


def test_damaged_model_is_fetched_again(house: House) -> None:
    house.append(single("1"))
    house.keeper().step()
    (house.root / "models" / house.digests["1"] / "model.onnx").write_bytes(b"rot")
    keeper = house.keeper()
    keeper.step()
    assert keeper.state.errors == {}
    assert package_digest(house.root / "models" / house.digests["1"]) == house.digests["1"]


def test_unavailable_lake_is_asked_at_growing_intervals(house: House) -> None:
    house.append(single("1"))
    away = AwayLake(house.root / "lake")
    keeper = house.keeper(packages=away)
    for now, calls in ((0.0, 1), (0.5, 1), (1.1, 2), (2.9, 2), (3.2, 3)):
        house.now = now
        keeper.step()
        assert away.listed == calls, now
    assert "does not answer" in keeper.state.errors["1"]


def test_few_packages_are_kept(house: House) -> None:
    seeds = range(9)
    for seed in seeds:
        house.append(single(f"v{seed}"), {f"v{seed}": house.build(f"v{seed}", seed=seed + 10)})
        house.keeper().step()
    assert len(list((house.root / "models").iterdir())) <= 7


def test_former_champion_is_kept_after_many_challengers(house: House) -> None:
    house.append(single("1"))
    keeper = house.keeper()
    keeper.step()
    for seed in range(7):
        version = f"v{seed}"
        house.build(version, seed=seed + 10)
        arms = (Arm(name="champion", version="1", share=0.5), Arm(name="challenger", version=version, share=0.5))
        house.append(TrafficPlan(mode="ab", experiment=version, salt="s", arms=arms))
        keeper.step()
    house.append(single("v6"))
    keeper.step()
    house.append(single("1"))
    back = house.keeper(packages=AwayLake(house.root / "lake"))
    back.step()
    assert back.state.errors == {}
    assert back.state.folders
