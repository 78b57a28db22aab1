"""The command line as a tree of commands. Nothing heavy is imported before a command is chosen."""

from __future__ import annotations

import importlib
import inspect
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import soct
from soct.cli import job, profiles
from soct.cli.command_index import ToolEntry, read_step_index, read_tool_index
from soct.cli.help_page import draw_page
from soct.cli.options import STEPS, TOOLS
from soct.cli.tools import GROUPS
from soct.errors import ExitCode

_MEANING = {
    ExitCode.OK: "ok",
    ExitCode.INTERNAL: "internal error (a crash file is written)",
    ExitCode.USAGE: "usage",
    ExitCode.CONFIGURATION: "invalid profile or configuration",
    ExitCode.INPUT: "input missing or malformed",
    ExitCode.STEP_FAILED: "a step failed",
    ExitCode.QUALITY: "finished, but a quality gate failed (--fail-on-quality)",
    ExitCode.LOCKED: "run folder in use",
    ExitCode.RESOURCES: "not enough disk, memory or GPU memory, or no Dask worker",
    ExitCode.NEWER_STATE: "state written by a newer soct",
    ExitCode.TIME_LIMIT: "stopped cleanly before the time limit: run again",
    ExitCode.INTERRUPTED: "Ctrl-C",
    ExitCode.TERMINATED: "SIGTERM",
}


class Commands(TyperGroup):
    """All commands; those that are generated from models are built when one is called."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Lay out the list of commands, quickly."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            text = " ".join((command.help or "").split("\n\n", 1)[0].split())
            groups.setdefault(command.rich_help_panel, []).append((name, text))
        options: list[Any] = self.get_params(ctx)
        groups["Options"] = [(max(o.opts, key=len), o.help or "") for o in options]
        groups["Exit codes"] = [(f"{code:>3}", text) for code, text in _MEANING.items()]
        formatter.write(draw_page(self.get_usage(ctx), inspect.getdoc(_root) or "", groups) + "\n")

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the arguments name; a step's with all its parameters."""
        name, command, rest = super().resolve_command(ctx, args)
        entry = read_step_index().get(name or "")
        if entry is not None:
            from soct.cli.step_command import build_step_command

            command = build_step_command(entry.id)
        elif (tool := read_tool_index().get(name or "")) is not None:
            command = _build_tool(tool)
        return name, command, rest


class GroupOfTools(TyperGroup):
    """Tools whose names begin with the same word."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the tool that the arguments name, with all its parameters."""
        name, command, rest = super().resolve_command(ctx, args)
        tool = read_tool_index().get(f"{ctx.info_name} {name}")
        return name, _build_tool(tool) if tool is not None else command, rest


def _build_tool(tool: ToolEntry) -> Any:
    """Return a tool's command, importing its module."""
    module = importlib.import_module(tool.module)
    if hasattr(module, "build"):
        return module.build()
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    app.command(tool.name.rsplit(" ", 1)[-1])(module.command)
    return typer.main.get_command(app)


def _show_version(asked: bool) -> None:
    if asked:
        from soct.cli.terminal import data

        data(f"soct {soct.__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """From the raw tiles of a serial-sectioning OCT microscope to one brain volume and a report."""


def _unbuilt() -> None:
    """Stand in the list of commands for a command, which is built when it is called."""


def build_app() -> typer.Typer:
    """Return the command line."""
    app = typer.Typer(
        name="soct",
        cls=Commands,
        add_completion=True,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    job.register(app)
    for entry in read_step_index().values():
        app.command(entry.command, help=entry.summary, rich_help_panel=STEPS)(_unbuilt)
    groups: dict[str, typer.Typer] = {}
    for tool in read_tool_index().values():
        *group, name = tool.name.split(" ")
        parent = _group(app, groups, group[0]) if group else app
        parent.command(name, help=tool.summary, rich_help_panel=TOOLS)(_unbuilt)
    app.add_typer(profiles.build_profiles(), name="profiles", rich_help_panel=TOOLS)
    return app


def _group(app: typer.Typer, groups: dict[str, typer.Typer], name: str) -> typer.Typer:
    """Return the group of that name, made and added when it is first asked for."""
    if name not in groups:
        groups[name] = typer.Typer(
            cls=GroupOfTools, help=GROUPS[name], no_args_is_help=True, rich_markup_mode="rich"
        )
        app.add_typer(groups[name], name=name, rich_help_panel=TOOLS)
    return groups[name]


def run_app(arguments: list[str]) -> int:
    """Run one command.

    Returns
    -------
    int
        The exit code; usage errors have been told.
    """
    command = typer.main.get_command(build_app())
    try:
        result = command.main(args=arguments, prog_name="soct", standalone_mode=False)
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except _USAGE_ERROR as error:
        return _tell_usage(error)
    return result if isinstance(result, int) else ExitCode.OK


# The class that both typer's own copy of click and click itself derive their usage errors from.
_USAGE_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _tell_usage(error: Any) -> int:
    from soct.cli.terminal import words

    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        # Its message is the help; empty where typer has drawn it already.
        words(*filter(None, [error.format_message().rstrip()]))
        return ExitCode.USAGE
    words(f"error: {error.format_message()}")
    if context is not None:
        words(f"  to do:    {context.command_path} --help")
    return ExitCode.USAGE
