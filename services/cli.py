"""`daydreamer ...`: every command, thin. Imports stand in the commands, so that help is instant and a robot's computer
needs neither torch nor ray.

An error of ours is one red line and exit code 2; a traceback is a bug.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup


class _ServeByDefault(TyperGroup):
    """`daydreamer replay CONFIG` runs the service, beside `daydreamer replay stats`."""

    def parse_args(self, context, arguments):
        if arguments and arguments[0] not in self.commands and not arguments[0].startswith("-"):
            arguments = ["serve", *arguments]
        return super().parse_args(context, arguments)


app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Robots learn online: they act, a world model learns, its imagination makes better actions.")
config_app = typer.Typer(no_args_is_help=True, help="Settings.")
replay_app = typer.Typer(no_args_is_help=True, cls=_ServeByDefault,
                         help="The experience on disk; CONFIG runs the replay alone.")
keys_app = typer.Typer(no_args_is_help=True, help="Keys for networks that others can reach.")
app.add_typer(config_app, name="config")
app.add_typer(replay_app, name="replay")
app.add_typer(keys_app, name="keys")

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, such as configs/a1_walk.yaml.")]
Changes = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; repeatable.")]
Name = Annotated[str, typer.Option("--name", help="The run's name; the file's by default.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Of everything that is drawn at random.")]
Home = Annotated[Path, typer.Option("--home", help="The folder of all runs.")]
RunName = Annotated[str, typer.Argument(metavar="[RUN]", help="A run's name; the one started last by default.")]
Connect = Annotated[str, typer.Option("--connect", metavar="HOST[:PORT]", help="A coordinator on another machine.")]
Keys = Annotated[str, typer.Option("--keys", help="Our secret key file, for --connect.")]
Robot = Annotated[str, typer.Argument(metavar="[ROBOT]", help="One robot; all by default.")]
Which = Annotated[str, typer.Option("--robot", metavar="hardware|double", help="The real robot, at its address.")]
Double = Annotated[str, typer.Option("--double", metavar="direct|protocol", help="protocol: behind the vendor's SDK.")]


@app.command()
def run(config: ConfigFile,
        for_: Annotated[str, typer.Option("--for", metavar="TIME", help="End after this long: 90s, 10m, 2h.")] = "",
        name: Name = "",
        changes: Changes = None,
        robots: Annotated[int | None, typer.Option("--robots", help="How many of the robot.")] = None,
        plain: Annotated[bool, typer.Option("--plain", help="Lines instead of the live view.")] = False,
        address: Annotated[str, typer.Option("--address", help="An existing Ray cluster; else a local one.")] = "",
        seed: Seed = None,
        which: Which = "",
        double: Double = "",
        home: Home = Path("runs")) -> None:
    """Start all of it, or resume it: robot, replay, learner, policy server, coordinator."""
    from rich.console import Console

    from services.console import foreground
    from services.console.options import parse_duration, settings_of
    from services.console.screen import screen
    from services.embodiment import robot_spec

    settings = settings_of(config, changes, name=name, seed=seed, count=robots, which=which, double=double)
    robot_spec(settings)
    seconds = parse_duration(for_) if for_ else None
    typer.echo(foreground.run(settings, home, screen(Console(), plain), seconds=seconds, address=address))


@app.command()
def robot(config: ConfigFile, connect: Connect, changes: Changes = None, name: Name = "",
          index: Annotated[int, typer.Option("--index", help="Which of the run's robots this is.")] = 0,
          which: Which = "",
          double: Double = "",
          home: Home = Path("runs")) -> None:
    """Join a run from the robot's computer. Needs neither torch nor ray."""
    from services.console import by_hand
    from services.console.options import settings_of

    settings = settings_of(config, changes, name=name, which=which, double=double)
    by_hand.serve("robot", settings, home, connect, index)


@app.command()
def doctor(config: ConfigFile, changes: Changes = None, which: Which = "", double: Double = "",
           seconds: Annotated[float, typer.Option("--seconds", min=0.5, help="To measure for.")] = 3.0,
           home: Home = Path("runs")) -> None:
    """Look a robot over before it moves; exit code 1 when something is wrong. It stays disarmed."""
    from rich.console import Console

    from services.console import doctor as doctors
    from services.console.options import settings_of
    from services.console.tables import print_finding

    console, wrong = Console(), False
    for finding in doctors.examine(settings_of(config, changes, which=which, double=double), home, seconds):
        print_finding(console, finding)
        wrong |= finding.grade == doctors.WRONG
    raise typer.Exit(int(wrong))


@app.command()
def jog(config: ConfigFile, changes: Changes = None, which: Which = "", double: Double = "",
        axis: Annotated[int, typer.Option("--axis", help="Which number of the action; or which discrete action.")] = 0,
        by: Annotated[float, typer.Option("--by", help="How far, of its range from -1 to 1.")] = 0.1,
        seconds: Annotated[float, typer.Option("--seconds", help="How long.")] = 1.0,
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a real robot moves.")] = False,
        home: Home = Path("runs")) -> None:
    """Move one joint or axis a little, through the whole safety chain, and show what moved."""
    from rich.console import Console

    from services.console import jog as jogging
    from services.console.options import settings_of
    from services.console.tables import changes_table

    settings = settings_of(config, changes, which=which, double=double)
    jogging.check(settings, axis, by, seconds)
    if jogging.is_real(settings) and not yes:
        typer.confirm("The robot will move. Is nobody near it, and a hand at the stop button?", abort=True)
    jogged = jogging.jog(settings, home, axis, by, seconds)
    console = Console()
    console.print(changes_table(jogged.changes))
    console.print(f"limits met: {jogged.clip.name or jogged.clip!r}" if jogged.clip else "no limit was met")


@app.command()
def coordinator(config: ConfigFile, changes: Changes = None, name: Name = "", home: Home = Path("runs")) -> None:
    """The coordinator alone."""
    _by_hand("coordinator", config, "", changes, name, home)


@app.command()
def learner(config: ConfigFile, connect: Connect = "", changes: Changes = None, name: Name = "",
            home: Home = Path("runs")) -> None:
    """The learner alone."""
    _by_hand("learner", config, connect, changes, name, home)


@app.command()
def policy(config: ConfigFile, connect: Connect = "", changes: Changes = None, name: Name = "",
           home: Home = Path("runs")) -> None:
    """The policy server alone."""
    _by_hand("policy", config, connect, changes, name, home)


@replay_app.command("serve", hidden=True)
def replay(config: ConfigFile, connect: Connect = "", changes: Changes = None, name: Name = "",
           home: Home = Path("runs")) -> None:
    """The replay alone."""
    _by_hand("replay", config, connect, changes, name, home)


@app.command()
def train(config: ConfigFile, changes: Changes = None, name: Name = "", seed: Seed = None, home: Home = Path("runs"),
          steps: Annotated[int | None, typer.Option("--steps", help="Steps to collect in all.")] = None,
          episode_steps: Annotated[int | None, typer.Option("--episode-steps", help="Cut episodes here.")] = None,
          double: Double = "") -> None:
    """The same agent in lockstep with its robot, in one process and in the robot's own time. Resumes.

    With --seed K, and no --name, the run's name ends in -K.
    """
    from rich.console import Console

    from services.console import training
    from services.console.options import settings_of

    if seed is not None and not name:
        name = f"{settings_of(config, changes).name}-{seed}"
    settings = settings_of(config, changes, name=name, seed=seed, steps=steps, episode_steps=episode_steps,
                           double=double)
    training.train(settings, home, Console())


@app.command()
def evaluate(run: RunName = "", changes: Changes = None, home: Home = Path("runs"),
             episodes: Annotated[int, typer.Option("--episodes", min=1, help="How many.")] = 10,
             seed: Annotated[int, typer.Option("--seed", min=0, help="Of the episodes.")] = 0,
             video: Annotated[Path | None, typer.Option("--video", help="Film one of them, as an mp4.")] = None,
             ) -> None:
    """Play as a run has learned to: with its newest checkpoint and without exploring."""
    from rich.console import Console

    from services import run_folder
    from services.console import evaluating

    folder = run_folder.existing(home, run) if run else run_folder.latest(home)
    evaluating.evaluate(folder, changes or (), episodes, seed, video, Console())


@app.command()
def status(run: RunName = "", connect: Connect = "", keys: Keys = "", home: Home = Path("runs"),
           watch: Annotated[bool, typer.Option("--watch", help="Keep showing it.")] = False,
           plain: Annotated[bool, typer.Option("--plain", help="One line.")] = False) -> None:
    """How a run is going."""
    import threading

    from rich.console import Console

    from services.console import live, watching
    from services.console.screen import screen

    console = Console()
    with _operator(home, run, connect, keys) as operator:
        if not watch:
            now = operator.status()
            console.print(live.line(now) if plain else live.view(now), highlight=False, soft_wrap=plain)
            return
        stop = threading.Event()
        with watching.ended_by_signals(stop), screen(console, plain) as shown:
            watching.watch(operator, shown, stop)


@app.command()
def pause(robot: Robot = "", run: Annotated[str, typer.Option("--run")] = "", connect: Connect = "", keys: Keys = "",
          home: Home = Path("runs")) -> None:
    """Hold robots without ending the run."""
    _ask("pause", robot, run, connect, keys, home)


@app.command()
def resume(robot: Robot = "", run: Annotated[str, typer.Option("--run")] = "", connect: Connect = "", keys: Keys = "",
           home: Home = Path("runs")) -> None:
    """Let paused robots go on."""
    _ask("resume", robot, run, connect, keys, home)


@app.command()
def estop(robot: Robot = "", run: Annotated[str, typer.Option("--run")] = "", connect: Connect = "", keys: Keys = "",
          home: Home = Path("runs")) -> None:
    """Stop robots at once; each stays stopped until clear-fault.

    Robots of this computer are reached directly, even with everything else dead; the others through the coordinator.
    """
    from robots.estop import stop_bodies
    from services.console.operator import OperatorError
    from services.run_folder import RunFolderError

    told = [] if connect else stop_bodies(robot)
    for body in told:
        typer.echo(f"{body}: stopped directly; look at the robot, then clear the fault")
    try:
        _ask("estop", robot, run, connect, keys, home)
    except (OperatorError, RunFolderError) as error:
        if not told:
            raise
        typer.echo(f"robots of other computers were not asked: {error}")


@app.command("clear-fault")
def clear_fault(token: Annotated[str, typer.Option("--token", help="Who looked at the robot.")], robot: Robot = "",
                run: Annotated[str, typer.Option("--run")] = "", connect: Connect = "", keys: Keys = "",
                home: Home = Path("runs")) -> None:
    """Release robots from a fault, after somebody looked."""
    _ask("clear_fault", robot, run, connect, keys, home, token)


@app.command()
def stop(run: RunName = "", connect: Connect = "", keys: Keys = "", home: Home = Path("runs")) -> None:
    """End a run in order: robots to a safe pose, experience to disk, a checkpoint.

    Where the process that would do so is dead, robots of this computer are ended directly: parked and let go.
    """
    from services import run_folder
    from services.console import watching

    if connect:
        _ask("stop", "", run, connect, keys, home)
        return
    try:
        folder, info = run_folder.running(home, run)
    except run_folder.RunFolderError:
        folder, robots = watching.end_robots(home, run)
        if folder is None:
            raise
        typer.echo(f"{folder.path}: the process that ran it is gone; robots of this computer were told directly")
        for robot, ended in robots.items():
            typer.echo(f"{robot}: {'ended in order' if ended else 'does not end: look at it'}")
        raise typer.Exit(0 if all(robots.values()) else 1) from None
    typer.echo(f"{folder.path}: ending")
    watching.end(folder, info)


@config_app.command("show")
def config_show(config: ConfigFile, changes: Changes = None) -> None:
    """Every setting, its value, and where it comes from."""
    from rich.console import Console

    from services import config as configs
    from services.console.tables import settings_table

    Console().print(settings_table(configs.resolve(config, changes or ())))


@replay_app.command("stats")
def replay_stats(run: RunName = "", home: Home = Path("runs")) -> None:
    """What the replay of a run holds."""
    _show_log(run, home, verified=False)


@replay_app.command("verify")
def replay_verify(run: RunName = "", home: Home = Path("runs")) -> None:
    """Check every byte of it; exit code 1 when something is wrong."""
    _show_log(run, home, verified=True)


@keys_app.command("new")
def keys_new(name: Annotated[str, typer.Argument(help="Whose: server, a robot's name, or a person's.")],
             folder: Annotated[Path, typer.Option("--folder")] = Path("keys")) -> None:
    """Make a pair of keys and let its owner in."""
    from services.wire.security import SERVER, new_keys

    told = ("the services' own secret: it stays on their machine, network.keys names it" if name == SERVER
            else f"secret, take it and {folder}/server.key to where {name} runs")
    typer.echo(f"{new_keys(name, folder)}: {told}")


def _by_hand(kind: str, path: Path, connect: str, changes: list[str] | None, name: str, home: Path,
             index: int = 0) -> None:
    from services.console import by_hand
    from services.console.options import settings_of

    by_hand.serve(kind, settings_of(path, changes, name=name), home, connect, index)


def _show_log(run: str, home: Path, verified: bool) -> None:
    from rich.console import Console

    from daydreamer.replay.stats import stats, verify
    from services import run_folder
    from services.console.tables import log_table

    folder = run_folder.existing(home, run) if run else run_folder.latest(home)
    found = (verify if verified else stats)(folder.replay)
    Console().print(log_table(found, verified), highlight=False)
    if verified and not found.sound:
        raise typer.Exit(1)


def _operator(home: Path, run: str, connect: str, keys: str):
    """A line to the coordinator of a run: one of this machine, or the one at `connect`."""
    from services import config as configs
    from services import run_folder
    from services.console.operator import Operator, OperatorError, control_address

    if connect:
        return Operator(control_address(connect), keys)
    folder, info = run_folder.running(home, run)
    if not info.addresses:
        raise OperatorError(f"{folder.path}: is starting; ask again in a moment")
    return Operator(info.addresses["control"].replace("0.0.0.0", "127.0.0.1"), configs.load(folder.config).network.keys)


def _ask(command: str, robot: str, run: str, connect: str, keys: str, home: Path, token: str = "") -> None:
    with _operator(home, run, connect, keys) as operator:
        typer.echo(operator.ask(command, robot, token))


def main() -> None:
    """The command line. Errors of ours end it with one line and code 2, Ctrl-C with 130."""
    try:
        app()
    except Exception as error:
        if not is_ours(error):
            raise
        from rich.console import Console

        Console(stderr=True).print(f"{error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)


def is_ours(error: BaseException) -> bool:
    """Whether an error is one of the project's own types, whose text says what to do."""
    return type(error).__module__.partition(".")[0] in ("daydreamer", "robots", "services")


if __name__ == "__main__":
    main()
