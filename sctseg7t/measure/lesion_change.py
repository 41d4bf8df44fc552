"""What has become of one lesion between two scans."""

from dataclasses import dataclass

NEW, GROWN, STABLE, SHRUNK, VANISHED = STATUSES = ("new", "grown", "stable", "shrunk", "vanished")


@dataclass(frozen=True)
class LesionChange:
    """One lesion at both times. Volumes are of the halfway grid, mm3; `change` in medians of the brain."""

    id: int
    status: str
    volume_before_mm3: float
    volume_now_mm3: float
    growth: float | None
    change: float

    @property
    def grown_mm3(self) -> float:
        """Volume that it has gained."""
        return max(self.volume_now_mm3 - self.volume_before_mm3, 0.0)

    @property
    def shrunk_mm3(self) -> float:
        """Volume that it has lost."""
        return max(self.volume_before_mm3 - self.volume_now_mm3, 0.0)

    @property
    def stable_mm3(self) -> float:
        """Volume that it has at both times."""
        return min(self.volume_before_mm3, self.volume_now_mm3)
