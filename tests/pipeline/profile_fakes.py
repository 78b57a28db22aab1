"""Two small steps, so that the tests of profiles depend on no real one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from soct.pipeline.profiles.profile import Profile, load_profile
from soct.steps.declaration import Context, Params, Result, Scope, Step, parameter


class RegisterParams(Params):
    max_rotation_deg: float = parameter(5.0, "Largest rotation.", unit="deg", ge=0, le=180)
    max_translation_um: float = parameter(500.0, "Largest shift.", unit="um", ge=0)
    transform: Literal["euler", "affine"] = parameter("euler", "Kind of transform.")
    skip_unreliable: bool = parameter(False, "Leave unreliable pairs to the stage.")
    kernel: int = parameter(5, "Odd width of the median.", unit="px", ge=1, le=99)
    min_scale: float = parameter(0.5, "Smallest gain.", ge=0)
    max_scale: float = parameter(2.0, "Largest gain.", ge=0)
    overlap: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = parameter("auto", "Overlap.")
    levels_um: tuple[float, ...] = parameter((10.0, 25.0), "Levels.", unit="um")
    label: str = parameter("", "A word.")

    @model_validator(mode="after")
    def _ordered(self) -> RegisterParams:
        if self.min_scale > self.max_scale:
            raise ValueError("min_scale must not exceed max_scale")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, found {self.kernel}")
        return self


class StackParams(Params):
    blend_um: float = parameter(30.0, "Blending depth.", unit="um", gt=0)


def _nothing(context: Context, params: Any) -> Result:
    return Result()


STEPS: dict[str, Step[Any]] = {
    "register_pairwise": Step(
        "register_pairwise", 1, Scope.PAIR, RegisterParams, _nothing, "Register pairs."
    ),
    "stack": Step("stack", 1, Scope.RUN, StackParams, _nothing, "Stack."),
}


def load(path: Path | str = "default", **more: Any) -> Profile:
    """Load a profile for the fake steps, with an empty environment unless one is given."""
    return load_profile(path, **{"env": {}, "steps": STEPS, **more})
