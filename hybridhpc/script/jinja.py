"""The templates as Jinja has them, and their translation to Python. The only module that knows Jinja.

`python -m hybridhpc.script.jinja` prints the module template_code.py (`make templates`): one class for each template,
so that a submission need not import Jinja and compile, which took a third of its time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, nodes

from hybridhpc.config import data_path
from hybridhpc.script.templates import digest, template_files

_HEAD = '''"""The templates as Python: written by `make templates` from templates/, where changes belong."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

DIGEST = "{digest}"
"""Of the templates this was made from: with others it is not used."""

Context = Mapping[str, Any]
'''


def render(template: str, context: Mapping[str, Any]) -> str:
    """Return what Jinja makes of a template, slowly."""
    return environment().get_template(template).render(context)


@cache
def environment() -> Environment:
    """Return Jinja, set up for shell scripts: a name that is not there is an error, and nothing is escaped."""
    return Environment(
        loader=FileSystemLoader(data_path("templates")),
        undefined=StrictUndefined,
        # Shell is no HTML: values are quoted by quote.py, and autoescape would spoil them.
        autoescape=False,  # noqa: S701
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def translate() -> str:
    """Return the module that renders the same as Jinja. Raises ValueError for what the translation does not know."""
    trees = {name: environment().parse(path.read_text("utf-8"), name) for name, path in template_files().items()}
    order = sorted(trees, key=lambda name: (_depth(trees, name), name))
    classes = [line for name in order for line in _class(name, trees[name])]
    table = [f'    "{name}": {_class_name(name)},' for name in sorted(order)]
    head = _HEAD.format(digest=digest())
    return "\n".join([head, *classes, "", "TEMPLATES: dict[str, Callable[[Context], Any]] = {", *table, "}", ""])


def _depth(trees: Mapping[str, nodes.Template], name: str) -> int:
    """Return how many templates one extends: a class stands behind its base."""
    parent = _parent(trees[name])
    return 0 if parent is None else 1 + _depth(trees, parent)


def _parent(tree: nodes.Template) -> str | None:
    extends = tree.find(nodes.Extends)
    return None if extends is None else str(extends.template.as_const())


def _class(name: str, tree: nodes.Template) -> Iterator[str]:
    """Yield a template as a class: inheritance stays inheritance, a block is a method."""
    parent = _parent(tree)
    yield f"\nclass {_class_name(name)}{f'({_class_name(parent)})' if parent else ''}:"
    if parent is None:
        yield "    def __init__(self, context: Context) -> None:"
        yield "        self.context = context"
        yield from _method("text", tree.body)
    for block in tree.find_all(nodes.Block):
        yield from _method(f"block_{block.name}", block.body)


def _class_name(template: str) -> str:
    words = template.removesuffix(".sh.j2").replace("/", "_").split("_")
    return "".join(word.title() for word in words)


def _method(name: str, body: Sequence[nodes.Node]) -> Iterator[str]:
    yield f"\n    def {name}(self) -> Iterator[str]:"
    yield "        c = self.context"
    yield from _body(body, "        ", frozenset())
    if not body:
        yield "        yield from ()"


def _body(body: Sequence[nodes.Node], margin: str, local: frozenset[str]) -> Iterator[str]:
    for node in body:
        match node:
            case nodes.Output():
                yield from (f"{margin}yield {_output(part, local)}" for part in node.nodes)
            case nodes.If():
                yield from _if(node, margin, local)
            case nodes.For(target=nodes.Name(name=name)):
                yield f"{margin}for {name} in {_value(node.iter, local)}:"
                yield from _body(node.body, margin + "    ", local | {name})
            case nodes.Block():
                yield f"{margin}yield from self.block_{node.name}()"
            case nodes.Include():
                yield f"{margin}yield from TEMPLATES[{_value(node.template, local)}](c).text()"
            case _:
                raise ValueError(f"line {node.lineno}: {type(node).__name__} is not translated")


def _if(node: nodes.If, margin: str, local: frozenset[str]) -> Iterator[str]:
    for word, branch in [("if", node), *(("elif", other) for other in node.elif_)]:
        yield f"{margin}{word} {_value(branch.test, local)}:"
        yield from _body(branch.body, margin + "    ", local)
    if node.else_:
        yield f"{margin}else:"
        yield from _body(node.else_, margin + "    ", local)


def _output(node: nodes.Node, local: frozenset[str]) -> str:
    if not isinstance(node, nodes.TemplateData):
        return _value(node, local)
    text = node.data.replace("\\", "\\\\").replace("'''", "\\'\\'\\'")
    return f"'''{text[:-1]}\\''''" if text.endswith("'") else f"'''{text}'''"


def _value(node: nodes.Node, local: frozenset[str]) -> str:
    """Translate an expression. Values are text, lists and mappings: an attribute is a key."""
    match node:
        case nodes.Const():
            return repr(node.value)
        case nodes.Name():
            return node.name if node.name in local else f'c["{node.name}"]'
        case nodes.Getattr():
            return f'{_value(node.node, local)}["{node.attr}"]'
        case nodes.Add() | nodes.And() | nodes.Or():
            sign = {"add": "+"}.get(node.operator, node.operator)
            return f"({_value(node.left, local)} {sign} {_value(node.right, local)})"
        case nodes.Not(node=nodes.Test(name="none", node=tested)):
            return f"{_value(tested, local)} is not None"
        case nodes.Compare(ops=[nodes.Operand(op="eq", expr=other)]):
            return f"{_value(node.expr, local)} == {_value(other, local)}"
        case nodes.CondExpr():
            otherwise = _value(node.expr2, local) if node.expr2 else "''"
            return f"({_value(node.expr1, local)} if {_value(node.test, local)} else {otherwise})"
        case _:
            raise ValueError(f"{node} is not translated")


if __name__ == "__main__":
    sys.stdout.write(translate())
