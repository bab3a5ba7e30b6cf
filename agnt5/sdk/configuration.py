"""Configuration APIs: `ctx.config()`, values and feature flags."""

from __future__ import annotations

from typing import Any, TypeVar, overload

from agnt5 import codec
from agnt5.contracts.errors import Agnt5Error, InvalidInputError
from agnt5.contracts.fitting import MisfitError, check_default, fit, plain
from agnt5.contracts.flags import VALUE_LIMIT, Question, check_key, check_unit
from agnt5.sdk.port import FlagPort, RunInfo, WorkflowPort
from agnt5.sdk.properties import Headers

T = TypeVar("T")


class Config:
    """Config values and feature flags of a run. Reading one is a look into memory.

    The first place that has a value counts: Redis (`agnt5 config set`), the OpenFeature provider of the app, the
    environment (`AGNT5_FLAG_<KEY>`, in upper case, what is no letter or digit as `_`), the default.
    """

    def __init__(self, info: RunInfo, flags: FlagPort, headers: Headers) -> None:
        self._info = info
        self._flags = flags
        self._headers = headers

    @overload
    def get(self, key: str, default: None = None, *, unit: str | int | None = None, fresh: bool = False) -> Any: ...
    @overload
    def get(self, key: str, default: T, *, unit: str | int | None = None, fresh: bool = False) -> T: ...
    def get(self, key: str, default: Any = None, *, unit: str | int | None = None, fresh: bool = False) -> Any:
        """The value of a key, of the type of `default`: true or false, a number, text, list, dict or timedelta.

        Text is read as that type ("on" is True, "30s" a timedelta). A value that does not fit is told once in the log,
        and the default is given. Without a default the value comes as it is, None where nothing is set.

        A roll-out or experiment decides by run tree: all runs below one root get the same. With `unit`, a user's id for
        example, it decides by that.

        Functions and entities read what is set now, in each attempt anew. In a workflow the first answer for a key
        (and unit) is recorded: replays and later reads get the same until `continue_as_new`, or until a read with
        `fresh=True`, which is recorded too.

        Raises `InvalidInputError` for a key that is none, or a default of another type; never because of a value.
        """
        check_key(key)
        check_default(default)
        return self._read(key, default, "" if unit is None else check_unit(unit), fresh=fresh)

    def variant(
        self, experiment: str, default: str = "control", unit: str | int | None = None, *, fresh: bool = False
    ) -> str:
        """The variant of an experiment that this run tree (or `unit`) is in; the same one each time.

        As `get` of a text in all else: a key that is set to a plain text gives everybody that variant.
        """
        if not isinstance(default, str):
            raise InvalidInputError(f"variant({experiment!r}): default is a text, found {default!r:.80}")
        return self.get(experiment, default, unit=unit, fresh=fresh)

    def _read(self, key: str, default: Any, unit: str, *, fresh: bool) -> Any:
        del fresh  # it always is
        return self._live(key, default, unit)

    def _live(self, key: str, default: Any, unit: str) -> Any:
        """What is set now, or the default. Raises nothing: whatever a value or a provider is, the run goes on."""
        try:
            question = Question(key, default, unit or self._info.tree, self._headers, self._info.handler)
            found = self._flags.find(question)
            if found is None or found.value is None:
                return default
            try:
                return fit(found.value, default)
            except MisfitError as error:
                shown = repr(found.value)
                shown = shown if len(shown) <= 80 else f"{shown[:77]}..."  # noqa: PLR2004
                self._flags.warn(
                    key, f"config {key!r} from {found.place}: found {shown}, expected {error}; the default is used"
                )
        except Exception as error:  # noqa: BLE001 - config never breaks a handler
            self._flags.warn(key, f"config {key!r} could not be read, the default is used: {error!r}")
        return default

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._info.run_id}>"


class WorkflowConfig(Config):
    """The config of a workflow: what it reads is recorded."""

    def __init__(self, info: RunInfo, flags: FlagPort, headers: Headers, port: WorkflowPort) -> None:
        super().__init__(info, flags, headers)
        self._port = port

    def _read(self, key: str, default: Any, unit: str, *, fresh: bool) -> Any:
        usual = _recordable(plain(default), key)
        value = self._port.read_config(key, unit, lambda: self._now(key, default, unit, usual), fresh=fresh)
        if value is None:
            return default
        try:
            return fit(value, default)
        except MisfitError:  # it was read as another type before
            return default

    def _now(self, key: str, default: Any, unit: str, usual: Any) -> Any:
        """What is set now, in the form in which it is recorded."""
        value = self._live(key, default, unit)
        if value is default:
            return usual
        try:
            return _recordable(plain(value), key)
        except Agnt5Error as error:
            self._flags.warn(key, f"{error}; the default is used")
            return usual


def _recordable(value: Any, key: str) -> Any:
    """A value as it comes back from the journal. Raises `InvalidInputError`."""
    if value is None or isinstance(value, bool):
        return value
    what = f"config {key!r}"
    data = codec.dumps(value, what=what)
    if len(data) > VALUE_LIMIT:
        raise InvalidInputError(f"{what}: {len(data):,} bytes of JSON, at most {VALUE_LIMIT:,} are allowed")
    return codec.loads(data)
