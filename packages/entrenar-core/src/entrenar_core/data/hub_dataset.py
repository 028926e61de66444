"""The files of a dataset on the hub: of its repository, or of the branch that the hub converts it
to, at one commit. Nothing of a dataset is ever run."""

import io
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO, cast

from entrenar_common.errors import ConfigError, NotFoundError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.data.hub_card import CardConfig, card_configs
from entrenar_core.data.hub_layout import (
    converted_splits,
    data_files,
    one_split,
    readable,
    splits_by_name,
    splits_of,
)
from entrenar_core.data.readers import file_state, opened_file
from entrenar_core.io.hub_dataset import download, open_ranges
from entrenar_core.io.hub_listing import Listing, list_dataset
from entrenar_core.io.hub_model import is_hub_name
from entrenar_core.io.strict_json import read_text

CONVERTED = "refs/convert/parquet"
_CARD, _MAX_CARD_BYTES = "README.md", 16 * 2**20
_READ_AHEAD = 8 * 2**20


@dataclass(frozen=True)
class HubSpec:
    """A dataset on the hub.

    name:      org/name
    revision:  branch, tag or commit; the main branch, or what the hub converts it to, when None
    subset:    which of its configs; may be None where it has one or names a default
    split:     which part of it
    streaming: fetch what is read, and keep no copy, instead of downloading whole files
    """

    name: str
    revision: str | None = None
    subset: str | None = None
    split: str = "train"
    streaming: bool = False

    def __post_init__(self) -> None:
        if not is_hub_name(self.name):
            raise ConfigError(
                f"'{escape_controls(self.name)}' is not a name on the hub",
                hint="give a name like org/dataset",
            )


@dataclass(frozen=True)
class HubSource:
    """One file of a dataset on the hub; it is fetched when it is opened."""

    listing: Listing
    file: str
    format: str
    streaming: bool = False

    @property
    def name(self) -> str:
        return escape_controls(f"{_at(self.listing)}:{self.file}")

    @property
    def size(self) -> int:
        return self.listing.files[self.file].size

    @property
    def revision(self) -> str:
        return self.listing.commit

    @property
    def identity(self) -> list[Any]:
        """What is another where the file is another one, however it is fetched, as plain data."""
        digest = self.listing.files[self.file].digest
        return [self.listing.name, self.revision, self.file, self.format, self.size, digest]

    def place(self, row: int) -> str:
        return f"{self.name}#{row}"

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Raises what `download` raises, or for a stream what `open_ranges` does."""
        if not self.streaming:
            path = download(self.listing, self.file)
            with opened_file(path, self.name, file_state(path.stat())) as file:
                yield file
            return
        with closing(open_ranges(self.listing, self.file)) as ranges:
            whole = self.format == "parquet"  # it says which ranges it wants; lines do not
            found = ranges if whole else io.BufferedReader(ranges, _READ_AHEAD)
            yield cast(BinaryIO, found)


def list_hub_files(spec: HubSpec) -> list[HubSource]:
    """The files of one split, in the order in which they are read; they are not fetched yet.

    They are what the dataset's card says in `configs`, or what their names say. Where that is
    nothing that can be read, it is the branch refs/convert/parquet, if no revision was asked for.

    Raises NotFoundError (no such dataset, revision, config or split), ConfigError (which config is
    meant is not clear), UnsupportedError (no files that can be read), FormatError (the card),
    HubError and IntegrityError.
    """
    listing = list_dataset(spec.name, spec.revision)
    try:
        chosen = _own_files(listing, spec)
    except UnsupportedError as error:
        listing = _converted_listing(spec, error)
        chosen = _converted_files(listing, spec)
    return [HubSource(listing, file, kind, spec.streaming) for file, kind in chosen]


def _at(listing: Listing) -> str:
    return f"{listing.name}@{listing.commit[:7]}"


def _own_files(listing: Listing, spec: HubSpec) -> Sequence[tuple[str, str]]:
    name, configs = _at(listing), _configs(listing)
    if configs:
        config = configs[_choose([c.name for c in configs], _defaults(configs), spec, name)]
        if config.options:
            raise UnsupportedError(
                f"{name}: the card's config '{escape_controls(config.name)}' wants its files read "
                f"with {escape_controls(', '.join(config.options))}, which is not supported",
                hint="download the files, rewrite them, and give them as source: files",
            )
        splits = splits_of(config, listing.files)
        return readable(one_split(splits, spec.split, name), name)
    if converted_splits(listing.files):
        return _converted_files(listing, spec)
    _refuse_script(listing)
    splits = splits_by_name(data_files(listing.files))
    readable([*chain(*splits.values())], name)  # else its splits are not those of the dataset
    _choose(["default"], [0], spec, name)
    return readable(one_split(splits, spec.split, name), name)


def _configs(listing: Listing) -> list[CardConfig]:
    if _CARD not in listing.files:
        return []
    card = read_text(download(listing, _CARD), max_bytes=_MAX_CARD_BYTES)
    return card_configs(card, f"{_at(listing)}:{_CARD}")


def _refuse_script(listing: Listing) -> None:
    """Files beside a script are what the script makes a dataset of, not the dataset."""
    script = f"{listing.name.rsplit('/', 1)[-1]}.py"
    if script in listing.files:
        raise UnsupportedError(
            f"{_at(listing)}: it is made by a script, {script}, and such scripts are not run",
            hint="give a dataset whose repository has the files themselves",
        )


def _defaults(configs: Sequence[CardConfig]) -> list[int]:
    return [i for i, c in enumerate(configs) if c.default or c.name == "default"]


def _choose(names: Sequence[str], defaults: Sequence[int], spec: HubSpec, name: str) -> int:
    """The place of the config that is meant."""
    listed = escape_controls(", ".join(names))
    if spec.subset is not None:
        if spec.subset in names:
            return names.index(spec.subset)
        raise NotFoundError(
            f"{name}: there is no subset '{escape_controls(spec.subset)}'",
            hint=f"set subset to one of: {listed}",
        )
    if len(names) == 1:
        return 0
    if len(defaults) != 1:
        raise ConfigError(
            f"{name}: it has {len(names)} subsets and no default",
            hint=f"set subset to one of: {listed}",
        )
    return defaults[0]


def _converted_listing(spec: HubSpec, reason: UnsupportedError) -> Listing:
    if spec.revision is not None:
        raise UnsupportedError(
            reason.message,
            hint=f"leave revision out to read what the hub has converted, or set it to {CONVERTED} "
            "or a commit of that branch",
        ) from reason
    try:
        return list_dataset(spec.name, CONVERTED)
    except NotFoundError as error:
        raise UnsupportedError(
            f"{reason.message}; and the hub has not converted it ({CONVERTED})", hint=reason.hint
        ) from error


def _converted_files(listing: Listing, spec: HubSpec) -> Sequence[tuple[str, str]]:
    name, found = _at(listing), converted_splits(listing.files)
    if not found:
        raise UnsupportedError(
            f"{name}: its files are not called CONFIG/SPLIT/0000.parquet",
            hint="give a revision of the dataset's own files",
        )
    names = list(found)
    default = [i for i, each in enumerate(names) if each == "default"]
    config = found[names[_choose(names, default, spec, name)]]
    return [(path, "parquet") for path in one_split(config, spec.split, name)]
