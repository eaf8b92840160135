"""What the site has beside the files of docs/: pages from the repository's top, the reference, links between them.

A link in a page is written for the repository, where a reader of the files follows it. Here it is turned to the page of
the site that shows the same file; one to a file that is no page keeps its words alone.
"""

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "src" / "ducseg"
HELP = REPOSITORY / "tests" / "cli" / "help_snapshot.txt"
"""What the parser says, compared with it by the tests."""

TOP = ("RESULTS.md", "LOG.md", "CHANGELOG.md", "CODE_OF_CONDUCT.md", "SECURITY.md")
ELSEWHERE = {"README.md": "README.md", "CONTRIBUTING.md": "contributing.md"}
"""Files at the top that another page of the site stands for."""

_LINK = re.compile(r"(!?)\[([^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
_CODE = re.compile(r"^```.*?^```|^(?: {4}|\t).*?$|`[^`\n]+`", re.DOTALL | re.MULTILINE)


def pages() -> dict[str, str]:
    """Generated pages: place in the site -> Markdown."""
    found = {name: (REPOSITORY / name).read_text(encoding="utf-8") for name in TOP}
    for card in (REPOSITORY / "pretrained").glob("*/README.md"):
        found[f"networks/{card.parent.name}.md"] = card.read_text(encoding="utf-8").split("---\n", 2)[2]
    for script in sorted((REPOSITORY / "notebooks").glob("*.py")):
        found[f"notebooks/{script.stem}.md"] = notebook(script.read_text(encoding="utf-8"))
    found["reference/commands.md"] = commands(HELP.read_text(encoding="utf-8"))
    for room in rooms():
        found[f"reference/{room}.md"] = reference(room)
    return found


def notebook(script: str) -> str:
    """Cells of a percent script as Markdown."""
    parts = []
    for kind, cell in re.findall(r"^# %%( \[markdown\])?\n(.*?)(?=^# %%|\Z)", script, re.DOTALL | re.MULTILINE):
        text = cell.strip("\n")
        parts.append(re.sub(r"^# ?", "", text, flags=re.MULTILINE) if kind else f"```python\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def rooms() -> list[str]:
    """The package's rooms with names for others, in the order of their imports: the top first, as `ducseg`."""
    order = ["ops", "models", "weights", "data", "metrics", "crf", "inference", "export", "serve", "figures", "train"]
    there = {init.parent.name for init in PACKAGE.glob("*/__init__.py")} - {"cli"}
    return ["ducseg", *(room for room in order if room in there), *sorted(there - set(order))]


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def public(module: Path) -> list[str]:
    """The names in a module's `__all__` that it defines itself."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    listed: list[str] = []
    defined: set[str] = set()
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = {target.id for target in targets if isinstance(target, ast.Name)}
        if names == {"__all__"} and isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
            listed = [item.value for item in node.value.elts if isinstance(item, ast.Constant)]
        defined |= names | ({node.name} if isinstance(node, _DEFINITIONS) else set())
    return [name for name in listed if name in defined and name != "__version__"]


def modules(room: str) -> dict[str, list[str]]:
    """Dotted name -> its public names, of every module of a room that has some."""
    files = PACKAGE.glob("*.py") if room == "ducseg" else (PACKAGE / room).rglob("*.py")
    found = {}
    for file in sorted(files):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        if names := public(file):
            found[".".join(part for part in parts if part != "__init__")] = names
    return found


_WHOLE = "      show_root_heading: false\n      show_root_toc_entry: false\n"


def reference(room: str) -> str:
    """A room's page: every public name of each of its modules, from its docstring."""
    title = room if room == "ducseg" else f"ducseg.{room}"
    parts = [f"# {title}"]
    for module, names in modules(room).items():
        members = "\n".join(f"        - {name}" for name in names)
        parts.append(f"## {module} {{: #module-{module.replace('.', '-')} }}")
        parts.append(f"::: {module}\n    options:\n{_WHOLE}      members:\n{members}\n")
    return "\n\n".join(parts)


def commands(text: str) -> str:
    """Every command with its options, as the parser prints them, without the boxes."""
    statuses = "Exit status: 0 done, 1 done with findings, 2 bad input, 75 saved on SIGTERM."
    parts = [f"# Commands\n\nWhat `ducseg COMMAND --help` prints. {statuses}"]
    for block in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        name, _, told = block.partition(" --help\n")
        told = re.sub(r"^│ (.*?) *│$", r"  \1", told, flags=re.MULTILINE)
        told = re.sub(r"^╭─+ (.*?) ─*╮$", r"\1:", told, flags=re.MULTILINE)
        told = re.sub(r"^[╰├].*\n", "", told, flags=re.MULTILINE)
        parts.append(f"## {name}\n\n```text\n{told.strip()}\n```")
    return "\n\n".join(parts) + "\n"


def on_config(config: Any) -> Any:
    """The generated pages join the navigation."""
    sections = {name: below for entry in config.nav for name, below in entry.items()}
    sections["Reference"] += [{room: f"reference/{room}.md"} for room in rooms()]
    sections["Guides"] += [{"Notebooks": [place for place in pages() if place.startswith("notebooks/")]}]
    sections["Results"] += [{Path(place).stem: place} for place in pages() if place.startswith("networks/")]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Generated pages join those of docs/."""
    for place, text in pages().items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to files become links to pages."""
    source = page.file.src_uri
    kept = {match.span() for match in _CODE.finditer(markdown)}

    def turned(match: re.Match[str]) -> str:
        if any(first <= match.start() < last for first, last in kept):
            return match[0]
        place = site_place(origin(source), match[3])
        if place is None:
            return match[0] if "://" in match[3] else match[2]
        words = title(files, place) if match[2] == Path(match[3]).name and not match[1] else match[2]
        return f"{match[1]}[{words}]({relative(source, place)}{match[4] or ''})"

    return _LINK.sub(turned, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """A figure leads to itself alone, where a telephone can enlarge it."""
    return re.sub(r'(<img [^>]*src="([^"]+)"[^>]*>)', r'<a href="\2">\1</a>', html)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """What search needs where pages are opened as files comes from here, too."""
    return _shim(output, page.file.src_uri)


def on_post_template(output_content: str, template_name: str, config: Any) -> str:
    """The page for addresses that lead nowhere."""
    return _shim(output_content, template_name)


def _shim(html: str, source: str) -> str:
    return html.replace("https://unpkg.com/iframe-worker/shim", relative(source, "site/iframe-worker.js"))


def origin(source: str) -> Path:
    """The file of the repository that a page of the site was made of."""
    if source.startswith("notebooks/"):
        return REPOSITORY / Path(source).with_suffix(".py")
    if source.startswith("networks/"):
        return REPOSITORY / "pretrained" / Path(source).stem / "README.md"
    return REPOSITORY / source if source in TOP else REPOSITORY / "docs" / source


def site_place(page: Path, link: str) -> str | None:
    """Where the site shows what a link in a file of the repository leads to; None: nowhere, or elsewhere."""
    if "://" in link:
        return None
    target = (page.parent / link).resolve()
    if not target.is_relative_to(REPOSITORY):
        return None
    inside = target.relative_to(REPOSITORY)
    if inside.parts[0] == "pretrained":
        return f"networks/{inside.parts[1]}.md" if len(inside.parts) > 1 else "networks.md"
    if inside.parts[0] == "notebooks":
        return inside.with_suffix(".md").as_posix()
    if inside.parts[0] == "docs":
        return inside.relative_to("docs").as_posix().rstrip(".") or "README.md"
    return inside.name if inside.as_posix() in TOP else ELSEWHERE.get(inside.as_posix())


def title(files: Files, place: str) -> str:
    """The heading of a page, which a link shows that is named by its file for readers of the files."""
    file = files.get_file_from_path(place)
    found = re.search(r"^# (.*)$", file.content_string, re.MULTILINE) if file is not None else None
    return found[1] if found else place


def relative(source: str, place: str) -> str:
    """A link from one page of the site to another."""
    return "../" * source.count("/") + place
