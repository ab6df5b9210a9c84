"""Customer text that tries to be a command somewhere, and readers of what became of it."""

from html.parser import HTMLParser

from hypothesis import strategies as st
from markdown_it import MarkdownIt

HOSTILE = (
    "=HYPERLINK(\"http://evil\",\"x\")", "+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", "fine;=1+1", "a\n=1", "'=1", "＝1",
    "<a href='http://evil'>prize</a>", "<b>bold</b>", "&lt;img&gt;", "</script><script>alert(1)</script>",
    r"$\foo$", "$", r"\$", "```", "`` ` ``", "a\n```\n# head", "[x](http://evil)", "![x](http://evil)", "| a | b |",
    "- list", "1. list", "# head", "> quote", "www.evil.example", "\x1b[2J", "\x9b31m", "a\r\nlevel=error",
    "\u2028", "\u202egnp.exe", "<!channel>", "@everyone", "<http://evil|click>",
)  # fmt: skip
texts = st.one_of(st.sampled_from(HOSTILE), st.text(), st.lists(st.sampled_from(HOSTILE), max_size=3).map("".join))


class Tags(HTMLParser):
    """Collects the elements and texts of rendered Markdown or a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(page: str) -> Tags:
    found = Tags()
    found.feed(page)
    found.close()
    return found


def rendered(markdown: str) -> Tags:
    """Elements and text of Markdown as operators see it, tables and raw HTML included."""
    return parsed(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown))
