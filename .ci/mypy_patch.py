"""For mypy: what `@patch` adds to a class, in whatever module, is there, as `Any`."""
import ast
from collections import defaultdict
from pathlib import Path

from mypy.plugin import Plugin
from mypy.plugins.common import add_attribute_to_class
from mypy.types import AnyType, TypeOfAny

PACKAGE = Path(__file__).resolve().parents[1]/'resn_nb'


def patched():
    "Name of a class → names that functions under `@patch` give it"
    names = defaultdict(set)
    for f in PACKAGE.glob('*.py'):
        for node in ast.parse(f.read_text(encoding='utf-8')).body:
            if not isinstance(node, ast.FunctionDef): continue
            if any('patch' in ast.unparse(d).split('(')[0].split('.')[-1:] for d in node.decorator_list):
                kind = node.args.args[0].annotation
                for cls in kind.elts if isinstance(kind, ast.Tuple) else [kind]: names[ast.unparse(cls)].add(node.name)
    return names


class Patched(Plugin):
    names = patched()

    def get_customize_class_mro_hook(self, fullname):
        module, _, cls = fullname.rpartition('.')
        if module.startswith('resn_nb.') and cls in self.names: return self.add

    def add(self, ctx):
        for name in self.names[ctx.cls.name]:
            if name not in ctx.cls.info.names: add_attribute_to_class(ctx.api, ctx.cls, name, AnyType(TypeOfAny.explicit))


def plugin(version): return Patched
