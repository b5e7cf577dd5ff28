"""Command lines: options of a command, ``--config`` files and dotted settings become options and a RunConfig."""

import argparse
import difflib
import logging
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from mmagn.config.reading import (
    checked_text,
    config_from_settings,
    explanations,
    setting_from_text,
    settings_in_file,
    unknown_setting,
)
from mmagn.config.run_config import RunConfig, config_dict, config_file, without_effect
from mmagn.storage.settings import Setting, allowed_text, declared_settings, setting_types, setting_values, value_text

logger = logging.getLogger(__name__)


class Parser(argparse.ArgumentParser):
    """Options of one command; whatever is wrong with a command line is one sentence.

    Parameters
    ----------
    command
        Function of the command: its name, and what it does.
    examples
        Command lines that are shown by ``--help``.
    note
        What else is stated there about the command.
    """

    def __init__(self, command: Callable[..., int], examples: Sequence[str] = (), note: str = "") -> None:
        super().__init__(
            prog=f"mmagn {command.__name__.replace('_', '-')}",
            description=f"{command.__doc__}{note}",
            epilog="examples:\n" + textwrap.indent("\n".join(examples), "  ") if examples else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise a ValueError that names the command."""
        sentence = re.sub(r"^argument (\S+): is ", r"\1 is ", " ".join(message.split()))
        raise ValueError(f"{self.prog}: {sentence}")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse after unknown options are refused, so that a misspelt one is named before one that is missing."""
        options = tuple(self._option_string_actions)
        for argument in sys.argv[1:] if args is None else args:
            name = argument.partition("=")[0]
            if name.startswith("--") and name not in options:
                self.error(self._unknown(name, options))
        return super().parse_known_args(args, namespace)

    def _unknown(self, name: str, options: Sequence[str]) -> str:
        nearest = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
        return f"{name} is not an option" + (f"; the nearest is {nearest[0]}" if nearest else "; see --help")


class ConfigParser(Parser):
    """Options of one command, ``--config``, and a dotted option for every setting of RunConfig.

    Parameters
    ----------
    command, examples, note
        As of :class:`Parser`.
    listed
        Settings that ``--help`` explains; ``--help-all`` explains all.
    base
        Option whose value is a run folder with the settings that others are changes of, where no ``--config`` is given.
    """

    def __init__(
        self,
        command: Callable[..., int],
        examples: Sequence[str],
        note: str = "",
        *,
        listed: Sequence[str],
        base: str = "",
    ) -> None:
        super().__init__(command, examples, note)
        self.listed, self.base = listed, base
        self.usage = f"{self.prog} [--config FILE] [--SETTING VALUE ...] [options]"
        config_help = "YAML file, run folder or shipped name; may repeat"
        self.add_argument("--config", action="append", metavar="FILE", help=config_help)
        self.add_argument("--print_config", action="store_true", help="print the resulting settings and exit")
        self.add_argument("--help-all", action="store_true", help="explain all settings and exit")

    def parsed(self, arguments: Sequence[str]) -> tuple[RunConfig, argparse.Namespace]:
        """Config and options of a command line; configs are applied first, in their order, then single settings.

        What will be done is logged, before the libraries that take seconds to load; settings without effect are
        logged as warnings. ``ValueError`` where an option or setting is unknown, incomplete or not allowed.
        """
        own, settings = self._split(arguments)
        if "--help-all" in own:
            _print_and_exit(self.full_help())
        options = self.parse_args(own)
        files = options.config or self._base(options)
        merged: dict[str, Any] = {}
        for name in files:
            merged |= settings_in_file(config_file(name), RunConfig)
        config = config_from_settings(RunConfig, merged | settings)
        if options.print_config:
            _print_and_exit(yaml.safe_dump(config_dict(config), sort_keys=False))
        logger.info("%s: %s, data.source %s; loading libraries", self.prog, config.name, config.data.source)
        of_file = ("data.wavelengths ",) if getattr(options, "spectrum", None) else ()
        for sentence in without_effect(config):
            if not sentence.startswith(of_file):
                logger.warning(sentence)
        return config, options

    def _base(self, options: argparse.Namespace) -> list[str]:
        """Run folder that the settings are taken from."""
        value = getattr(options, self.base.removeprefix("--"), None) if self.base else None
        first = next(iter(value), None) if isinstance(value, list) else value
        return [f"{first}/config.yaml"] if first and first != "auto" and _is_run(first) else []

    def _split(self, arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
        """Options of the command itself, and settings by dotted name."""
        own: list[str] = []
        settings: dict[str, Any] = {}
        known, rest = declared_settings(RunConfig), iter(arguments)
        for argument in rest:
            name, equals, value = argument.removeprefix("--").partition("=")
            if not argument.startswith("--") or name not in known:
                own.append(argument)
                continue
            if not equals:
                value = next(rest, "--")
                if value.startswith("--"):
                    allowed = allowed_text(setting_types(RunConfig)[name], known[name])
                    self.error(f"--{name} needs a value; allowed: {allowed}")
            settings[name] = setting_from_text(name, value, RunConfig)
        return own, settings

    def _unknown(self, name: str, options: Sequence[str]) -> str:
        bare = name.removeprefix("--")
        if "." not in bare and difflib.get_close_matches(name, options, n=1, cutoff=0.6):
            return super()._unknown(name, options)
        return unknown_setting(bare, RunConfig)

    def format_help(self) -> str:
        """Return the options of the command, its most used settings and examples."""
        text, marker, examples = super().format_help().partition("\nexamples:\n")
        settings = "".join(_explained(name) for name in self.listed)
        return f"{text}\nmost used settings (all: --help-all):\n{settings}{marker}{examples}"

    def full_help(self) -> str:
        """Return the options of the command and all settings."""
        return f"{super().format_help()}\nsettings:\n{''.join(map(_explained, declared_settings(RunConfig)))}"


def number(kind: type, **allowed: Any) -> Callable[[str], Any]:
    """Return the reader of a number in the range ``allowed``, attributes of ``Setting``, for an option."""
    declared = Setting(affects=("nothing",), **allowed)

    def read(text: str) -> Any:
        try:
            return checked_text("it", text, kind, declared)
        except ValueError:
            raise argparse.ArgumentTypeError(f"is {text}; allowed: {allowed_text(kind, declared)}") from None

    return read


def run_folder(text: str) -> Path:
    """Return the folder of a run that an option names; one on a hub, ``hf://ORG/NAME[@REVISION]``, is downloaded."""
    if not text.startswith("hf://"):
        return Path(text)
    from mmagn.runs.hub import local_run  # only where it is needed, so that --help need not wait for it

    try:
        return local_run(text)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _print_and_exit(text: str) -> NoReturn:
    sys.stdout.write(text)
    raise SystemExit(0)


def _explained(name: str) -> str:
    """Name, default, allowed values and explanation of a setting, for the help."""
    declared, kind = declared_settings(RunConfig)[name], setting_types(RunConfig)[name]
    default = value_text(setting_values(RunConfig())[name])
    text = explanations(RunConfig)[name].replace("``", "")
    text = f"{text} Default: {default}; allowed: {allowed_text(kind, declared)}."
    return f"  --{name} VALUE\n{textwrap.fill(text, 110, initial_indent=' ' * 8, subsequent_indent=' ' * 8)}\n"


def _is_run(folder: str) -> bool:
    """Whether a folder holds settings; what else is wrong with it is the command's to say."""
    try:
        return config_file(f"{folder}/config.yaml").is_file()
    except ValueError:
        return False
