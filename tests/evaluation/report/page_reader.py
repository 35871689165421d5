"""The report as a browser would see it: every tag, the text outside scripts and figures, and the JSON blocks."""

import json
from html.parser import HTMLParser


class Page(HTMLParser):
    """Reads a page. `words` are its text, `figures` the texts that are drawn, by the figure's id."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.blocks, self.figures = [], [], {}, {}
        self._script, self._figure, self._depth = None, None, 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        self._script = attrs.get("id", "code") if tag in ("script", "style") else None
        if attrs.get("id", "").startswith("figure-"):
            self._figure, self._depth = self.figures.setdefault(attrs["id"].removeprefix("figure-"), []), 0
        elif tag == "div" and self._figure is not None:
            self._depth += 1

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._script = None
        if tag == "div" and self._figure is not None:
            self._depth -= 1
            if self._depth < 0:
                self._figure = None

    def handle_data(self, data):
        if self._figure is not None:
            self._figure.append(data)
        elif self._script is None:
            self.text.append(data)
        elif self._script != "code":
            self.blocks[self._script] = json.loads(data)

    @property
    def words(self):
        return " ".join("".join(self.text).split())

    def section(self, identifier):
        """Whether there is a section of this id."""
        return any(tag == "section" and attrs.get("id") == identifier for tag, attrs in self.tags)
