"""Own code by name: `package.module:attribute` and `path/file.py:attribute`, found, named, and compared with what it was."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import inspect
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from jaxrl.core import checks
from jaxrl.core.errors import InputError, nearest
from jaxrl.datasets import files

_names: dict[int, tuple[Any, str]] = {}  # what was found by name: id -> (the object, which so keeps its id, and its name)
_sources: dict[str, dict[str, str]] = {}  # of what stands before the colon: path and sha256 of the file, as it was loaded
_recorded: ContextVar[Mapping[str, str]] = ContextVar("recorded")


# Whose environments are called library:ID, and the folder of envs/ with the file that knows the library.
LIBRARIES = dict.fromkeys(("gymnasium", "envpool", "ale"), "host") | dict.fromkeys(
    ("brax", "playground", "jumanji", "xminigrid", "dataset"), "adapters"
)


DATA = "dataset:"  # before the path of data, an environment too


def is_name(text: Any) -> bool:
    """Whether a text names own code."""
    return isinstance(text, str) and ":" in text and text.partition(":")[0] not in LIBRARIES


@contextmanager
def recorded(sources: Mapping[str, Mapping[str, str]]) -> Iterator[None]:
    """Within this context names are looked for first where `source` found them: sources: {name: {"path", "sha256"}}."""
    token = _recorded.set({text.rpartition(":")[0]: where["path"] for text, where in sources.items()})
    try:
        yield
    finally:
        _recorded.reset(token)


def find(text: str) -> Any:
    """The object that `package.module:attribute` or `path/file.py:attribute` names; attribute may have dots.

    Relative paths, and modules that are not installed, are looked for in the working directory. A file that has changed
    since it was loaded is loaded again. Raises InputError where there is no such file, module or attribute.
    """
    where, _, attribute = text.rpartition(":")
    found: Any = _load(_file(text)) if where.endswith(".py") else _imported(text)
    _note(where, found)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InputError(f"{where} has no {attribute!r}; {nearest(part, [n for n in dir(found) if n[0] != '_'])}")
        found = getattr(found, part)
    _names[id(found)] = found, text
    return found


def name_of(thing: Any) -> str | None:
    """The text by which `find` gives this object, here and in another process; None where there is none."""
    if id(thing) in _names:
        return _names[id(thing)][1]
    if isinstance(thing, types.ModuleType):  # an agent, which its `make` means as well
        return name_of(getattr(thing, "make", None))
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not name or module == "__main__" or module not in sys.modules or "<" in name:
        return None
    owner: Any = sys.modules[module]
    for part in name.split("."):
        owner = getattr(owner, part, None)
    if owner is not thing:
        return None
    where = getattr(sys.modules[module], "__jaxrl_file__", module)
    _note(where, sys.modules[module])
    return f"{where}:{name}"


def is_recorded(text: Any) -> bool:
    """Whether a text names what may change: own code, or data."""
    return is_name(text) or (isinstance(text, str) and text.startswith(DATA))


def source(text: str) -> dict[str, str]:
    """Where the code or the data behind a name lies, and what it was when it was loaded: {"path", "sha256"}; {} of none."""
    if text.startswith(DATA):
        return files.fingerprint(text.removeprefix(DATA))
    return _sources.get(text.rpartition(":")[0], {})


def _note(where: str, module: Any) -> None:
    """Remember where a module's code lies and what it is; of one that Python imported once, for it stays in memory."""
    code, file = getattr(module, "__jaxrl_code__", None), getattr(module, "__file__", None)
    if file and (code is not None or where not in _sources):
        sha256 = digest(file) if code is None else hashlib.sha256(code).hexdigest()
        _sources[where] = {"path": str(Path(file).absolute()), "sha256": sha256}


def digest(file: str | Path) -> str:
    """The SHA-256 of a source file."""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def check_unchanged(sources: Mapping[str, Mapping[str, str]]) -> None:
    """Raises InputError where a file behind a name is not what it was when it was recorded; nothing of it runs before."""
    with recorded(sources):
        for text, before in sources.items():
            if text.startswith(DATA):
                _check_data(text, before)
                continue
            if text.rpartition(":")[0].endswith(".py"):
                file = _file(text)
            else:
                file = Path(_imported(text).__file__ or "")
            if (now := digest(file)) != before["sha256"]:
                raise InputError(
                    f"{file} ({text}) has changed since it was recorded (sha256 {before['sha256'][:8]}, now {now[:8]}): "
                    "put it back, or take it as it is with --anyway (anyway=True)"
                )


def _check_data(text: str, before: Mapping[str, str]) -> None:
    now = source(text).get("sha256", "gone")
    if now != before["sha256"]:
        raise InputError(
            f"{text} has changed since it was recorded (sha256 {before['sha256'][:8]}, now {now[:8]}): "
            "put it back, or take it as it is with --anyway (anyway=True)"
        )


def call_of(text: str, what: str) -> tuple[str, list[Any], dict[str, Any]]:
    """`name(1, low=2.5, x="text")` as its name, arguments and keywords, which are plain values; never evaluated.

    what: whose name it is, for the message. Raises InputError.
    """
    name, bracket, rest = text.partition("(")
    if not bracket:
        return text.strip(), [], {}
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("it is no call")
        keywords = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        return name.strip(), [ast.literal_eval(argument) for argument in call.args], keywords
    except (ValueError, SyntaxError) as error:
        raise InputError(f"{what} {text!r} must look like name or name(1, low=2.5, x='text')") from error


def made(text: str, what: str) -> Any:
    """The object that a name means; with arguments, "net.py:Wide(64)", what its class or function gives for them.

    `name_of` then knows the object by the whole text. what: what it is, for messages. Raises InputError.
    """
    name, args, kwargs = call_of(text, what)
    found = find(name)
    if "(" in text:
        found = fitting(found, f"{what} {text!r}", *args, **kwargs)
        _names[id(found)] = found, text
    return found


def functions(file: str) -> list[str]:
    """The functions and classes of a source file, which is not run; `make` first. [] where it cannot be read."""
    try:
        body = ast.parse(Path(file).read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []
    names = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"]
    return sorted(names, key=lambda name: name != "make")


def fitting(call: Any, what: str, *args: Any, **kwargs: Any) -> Any:
    """What `call` gives. Raises InputError, beginning with `what`, where it does not take these arguments."""
    try:
        inspect.signature(call).bind(*args, **kwargs)
    except TypeError as error:
        raise InputError(f"{what}: {error}") from error
    return call(*args, **kwargs)


def _file(text: str) -> Path:
    """The file before the colon: where it was recorded, in the working directory, or where it was found before."""
    where = text.rpartition(":")[0]
    for candidate in filter(None, (_recorded.get({}).get(where), where, _sources.get(where, {}).get("path"))):
        if Path(candidate).is_file():
            return Path(candidate)
    folder = Path(where).parent
    files = [str(f) for f in folder.glob("*.py")] if folder.is_dir() else []
    raise InputError(f"{text}: no file {where}; {nearest(where, files)}")


def _load(file: Path) -> types.ModuleType:
    """A file as a module, under a name that is the same in every process that loads it from there."""
    absolute = file.absolute()
    code = absolute.read_bytes()
    name = f"{file.stem}_{hashlib.sha256(str(absolute).encode()).hexdigest()[:8]}"
    known = sys.modules.get(name)
    if known is not None and known.__jaxrl_code__ == code:
        return known
    module: Any = types.ModuleType(name)
    module.__file__, module.__jaxrl_file__, module.__jaxrl_code__ = str(absolute), str(file), code
    _see(absolute.parent)
    sys.modules[name] = module
    try:
        exec(_compiled(code, absolute), module.__dict__)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, ImportError):
            raise InputError(f"{file}: {error}") from error
        with checks.explained(str(file), (Exception,)):
            raise
    return module


def _compiled(code: bytes, file: Path) -> Any:
    try:
        return compile(code, str(file), "exec")
    except (SyntaxError, ValueError) as error:
        raise InputError(f"{file}: {error}") from error


def _imported(text: str) -> types.ModuleType:
    """The module before the colon, which may lie in the working directory, or where it was recorded."""
    where = text.rpartition(":")[0]
    if not all(part.isidentifier() for part in where.split(".")):
        raise InputError(f"{text!r} must be package.module:attribute or path/file.py:attribute")
    _see(Path.cwd())
    if file := _recorded.get({}).get(where):
        depth = where.count(".") + (Path(file).name == "__init__.py")
        _see(Path(file).parents[min(depth, len(Path(file).parents) - 1)])
    with checks.explained(where, (Exception,)):
        try:
            return importlib.import_module(where)
        except (ImportError, SyntaxError) as error:
            near = difflib.get_close_matches(where, LIBRARIES, 1)
            raise InputError(f"{text}: {error}" + (f"; nearest: {near[0]}:ID" if near else "")) from error


def _see(folder: Path) -> None:
    """Let a folder's modules be imported, after those of every other folder."""
    if str(folder) not in sys.path and folder.is_dir():
        sys.path.append(str(folder))
