"""Papers in Markdown as .docx and PDF, made with pandoc and Typst, which are installed as Python packages."""

import itertools
import re
import tempfile
from pathlib import Path
from typing import Final

from absa.errors import NotFoundError, PermanentError

_DIAGRAM: Final = re.compile(r"```mermaid\n.*?```\n", re.DOTALL)
_PICTURE: Final = re.compile(r"!\[(?P<caption>[^]]*)\]\((?P<file>[^)]+)\)")
_NEAR_LINK: Final = re.compile(r"(?<!!)\[(?P<text>[^]]+)\]\((?!https?:)[^)]*\)")
_MARKDOWN: Final = "gfm+tex_math_dollars"
_PICTURE_POINTS_PER_INCH: Final = 144.0
_SHEET: Final = """
#set page(paper: "a4", margin: 2.2cm, numbering: "1")
#set text(size: 10pt)
#set par(justify: true)
#set table(stroke: 0.4pt + gray, inset: 4pt)
#show table: set text(size: 8pt)
#show figure: set block(breakable: true)
#show link: set text(fill: blue)
#show heading: set block(above: 1.2em, below: 0.7em)
#let horizontalrule = line(length: 100%)
"""


def render(paper: Path, into: Path) -> tuple[Path, Path]:
    """Write a paper as .docx and as PDF.

    Pandoc does not draw Mermaid: the n-th diagram of `NAME.md` is replaced by the picture `pictures/NAME-n.svg`. Links
    to other files of the repository become plain text. If a picture also exists as .png, the .png is used.

    Args:
        paper: Markdown file; paths of pictures are relative to its folder.
        into: existing folder.

    Returns:
        The .docx and the PDF.

    Raises:
        NotFoundError: the paper or a picture is missing, or pandoc or Typst is not installed.
        PermanentError: Typst refuses the output of pandoc.
    """
    try:
        import pypandoc
        import typst
    except ModuleNotFoundError as error:
        raise NotFoundError(f"papers need {error.name}: run `make submission`, which installs it") from None
    if not paper.is_file():
        raise NotFoundError(f"there is no paper {paper}")
    docx, pdf = into / f"{paper.stem}.docx", into / f"{paper.stem}.pdf"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        text = _prepared(paper, work)
        options = [f"--resource-path={work}"]
        pypandoc.convert_text(text, "docx", format=_MARKDOWN, outputfile=str(docx), extra_args=options)
        body = pypandoc.convert_text(text, "typst", format=_MARKDOWN, extra_args=["--wrap=none"])
        (work / "paper.typ").write_text(_SHEET + body, encoding="utf-8")
        try:
            typst.compile(str(work / "paper.typ"), output=str(pdf), root=str(work))
        except Exception as error:  # Typst's error class is not public in every version
            raise PermanentError(f"{paper.name} cannot be set as PDF: {str(error)[:300]}") from error
    return docx, pdf


def _prepared(paper: Path, work: Path) -> str:
    """Write the paper's pictures as .png files into a folder; return its Markdown with links to them."""
    taken: dict[str, str] = {}

    def picture(match: re.Match[str]) -> str:
        file = match["file"]
        if file not in taken:
            taken[file] = f"picture-{len(taken)}.png"
            _as_png(paper.parent / file, work / taken[file])
        return f"![{match['caption']}]({taken[file]})"

    drawn = itertools.count(1)
    text = _DIAGRAM.sub(lambda _: f"![](pictures/{paper.stem}-{next(drawn)}.svg)\n", paper.read_text(encoding="utf-8"))
    return _NEAR_LINK.sub(lambda match: match["text"], _PICTURE.sub(picture, text))


def _as_png(picture: Path, png: Path) -> None:
    import typst

    ready = picture.with_suffix(".png")
    if ready.is_file():
        png.write_bytes(ready.read_bytes())
        return
    if not picture.is_file():
        raise NotFoundError(f"there is no picture {picture}")
    source = png.with_suffix(".typ")
    (png.parent / picture.name).write_bytes(picture.read_bytes())
    page = f'#set page(width: auto, height: auto, margin: 0pt)\n#image("{picture.name}", width: 16cm)\n'
    source.write_text(page, encoding="utf-8")
    typst.compile(str(source), output=str(png), root=str(png.parent), format="png", ppi=_PICTURE_POINTS_PER_INCH)
