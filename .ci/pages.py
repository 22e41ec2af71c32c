#!/usr/bin/env python3
"""Prove that `nbdev_docs` makes every page, without Quarto: what nbdev does before Quarto is done here, and looked at.

    python .ci/pages.py            all notebooks; complaints name notebook, cell and what is right; exit 1 if there are any
    python .ci/pages.py NB...      these notebooks only (their links are still checked against all)

nbdev executes a page's exported cells, and any cell with an import anywhere, from the top of the repository, to fill
the reference entries. So a page fails, trains or loses saved results by a cell that mixes an import with work. Here
the same cells run, with no network, no new process, no file written and no training; then options, widths, outputs,
entries, links and pictures are checked.
"""
import argparse
import ast
import dataclasses
import functools
import importlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
import unicodedata
import warnings
from concurrent.futures import ProcessPoolExecutor
from operator import attrgetter
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
WIDE, HIDDEN_WIDE = 88, 100  # columns of code that a reader sees, of code in hidden cells
TOP = set('.ci .gitattributes .github .gitignore .ruff.toml CHANGELOG.md LICENSE README.md _quarto.yml constraints.txt '
          'nbs resn_nb settings.ini setup.py'.split())
WORK = 'resn_nb.train.fit', 'resn_nb.experiments.run', 'resn_nb.data.load_dataset'  # never called while pages are made
EXPORTED = {'export', 'exports', 'exporti', 'exec_doc'}

directive = re.compile(r'#\|\s*([\w-]+)\s*(:?)\s*(.*)')
link = re.compile(r'(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)(\{[^}]*\})?')
html = re.compile(r'<(?:img|a)\b[^>]*?\b(?:src|href)=["\']([^"\']+)["\'][^>]*>')
fenced = re.compile(r'^(?:```|~~~).*?^(?:```|~~~)\s*$', re.M | re.S)
code_span = re.compile(r'(`+)(?:(?!\1).)+\1')
show_doc = re.compile(r'^show_doc\(([\w.]+)', re.M)


def text(x): return ''.join(x) if isinstance(x, list) else x or ''
def source(cell): return text(cell['source'])
def head(s): return next((x for x in s.splitlines() if x.strip() and not x.startswith('#|')), s[:60]).strip()[:70]


def options(s):
    "A code cell's leading `#|` lines as {name: value}; directives of nbdev, without a colon, have the value None"
    out = {}
    for line in s.splitlines():
        if m := directive.match(line): out[m[1]] = m[3] if m[2] else None
        elif line.strip(): break
    return out


def hidden(opts):
    return 'hide' in opts or opts.get('include') == 'false' or opts.get('echo') == 'false'


# --- What a cell's text tells ---

class Once(yaml.SafeLoader):
    "YAML in which a key stands once, as for Quarto"
    def construct_mapping(self, node, deep=False):
        keys = [k.value for k, _ in node.value]
        if twice := {k for k in keys if keys.count(k) > 1}: raise yaml.YAMLError(f'{sorted(twice)[0]} stands twice')
        return super().construct_mapping(node, deep)


def check_options(s):
    "Quarto reads the `#| key: value` lines together, as YAML"
    lines = []
    for line in s.splitlines():
        if not line.startswith('#|'): break
        if directive.match(line) and directive.match(line)[2]: lines.append(line[2:].strip())
    try: got = yaml.load('\n'.join(lines), Once) or {}
    except yaml.YAMLError as e:
        yield f"options are no YAML ({str(e).splitlines()[0]}): put quotes around a value with ': ' or '#' in it"
        return
    for key, value in got.items():
        if key in ('fig-alt', 'fig-cap') and not isinstance(value, str | list):
            yield f'{key} is {value!r}: right is a text in quotes'
        if key == 'fig-alt' and re.search(r'%(?![0-9A-Fa-f]{2})', str(value)):
            yield f'{key} has a bare % (Quarto takes it for part of an address and warns): write per cent'
        if key in ('echo', 'include', 'eval', 'output') and value not in (True, False, 'asis', 'fenced'):
            yield f'{key} is {value!r}: right is true or false'


def check_width(s, opts):
    most = HIDDEN_WIDE if hidden(opts) else WIDE
    long = [(n, line) for n, line in enumerate(s.splitlines(), 1) if len(line) > most and not line.startswith('#|')]
    if long:
        n, line = long[0]
        more = f' ({len(long) - 1} more in this cell)' if len(long) > 1 else ''
        yield f'line {n} has {len(line)} columns, right are {most}: {line.strip()[:60]}{more}'


def check_imports(s, opts):
    "The build executes a cell with an import anywhere in it: such a cell holds imports alone"
    if EXPORTED & opts.keys() or opts.get('eval') == 'false': return
    try: body = ast.parse(re.sub(r'^\s*[%!].*$', '', s, flags=re.M))
    except SyntaxError: return
    kinds = ast.Import, ast.ImportFrom
    if any(isinstance(x, kinds) for x in ast.walk(body)) and not all(isinstance(x, kinds) for x in body.body):
        yield 'an import stands beside other code, so the build executes all of it: move imports into a cell of their own'


def check_alt(cell, opts):
    pictures = any(k.startswith('image/') for o in cell.get('outputs', []) for k in o.get('data', {}))
    seen = 'hide' not in opts and opts.get('include') != 'false' and opts.get('output') != 'false'
    if pictures and seen and not opts.get('fig-alt'): yield 'a picture without `#| fig-alt: "…"`'


def check_prose(s):
    "Code blocks and pictures in Markdown: a lone picture's text is its caption, so what it shows goes into `fig-alt`"
    for block in fenced.findall(s):
        for line in block.splitlines():
            if len(line) > WIDE: yield f'a line of a code block has {len(line)} columns, right are {WIDE}: {line.strip()[:60]}'
    for line in prose(s).splitlines():
        for mark, words, target, attrs in link.findall(line):
            if not mark: continue
            alone = re.fullmatch(r'\s*!\[.*\]\([^)]*\)(\{[^}]*\})?\s*', line)
            if alone and 'fig-alt=' not in attrs:
                yield f'picture {target}: give it {{fig-alt="what it shows"}}; the text in brackets is its caption'
            elif not alone and not words.strip() and 'alt=' not in attrs: yield f'picture {target} has no text in its brackets'


def check_cell(cell):
    s = source(cell)
    if cell['cell_type'] == 'markdown': return list(check_prose(s))
    if cell['cell_type'] != 'code': return []
    opts = options(s)
    return [*check_options(s), *check_width(s, opts), *check_imports(s, opts), *check_alt(cell, opts)]


# --- What the build makes of a notebook ---

class Forbidden(BaseException):
    "No Exception, so that no `except Exception` on the way hides it"


def forbid(event, args):
    what = {'socket.connect': 'opens a connection', 'socket.getaddrinfo': 'asks for an address',
            'subprocess.Popen': 'starts a process', 'os.fork': 'starts a process'}.get(event)
    if what: raise Forbidden(f'{what} ({args[1] if len(args) > 1 else ""!r})')
    if event == 'open' and isinstance(args[0], str) and isinstance(args[1], str) and set('wax+') & set(args[1]):
        if Path(args[0]).resolve().is_relative_to(ROOT): raise Forbidden(f'writes {args[0]}')


def guard():
    "In a worker, before any page: the libraries that pages need are there, and training, network and writing are not"
    import torch
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    sys.path[:] = [str(ROOT), *(p for p in sys.path if Path(p).resolve() != ROOT/'.ci')]  # as for the build
    os.chdir(ROOT)
    os.environ['IN_TEST'] = '1'  # as nbdev's own worker has it
    def no(name, *_, **__): raise Forbidden(f'calls {name}')
    for name in WORK:
        where, _, function = name.rpartition('.')
        module = importlib.import_module(where)
        old = getattr(module, function)
        setattr(module, function, functools.wraps(old)(functools.partial(no, name)))
    torch.autograd.backward = functools.partial(no, 'torch.autograd.backward')
    register_optimizer_step_pre_hook(functools.partial(no, 'a step of an optimiser'))
    for name in ('nbdev.showdoc', 'matplotlib.font_manager'): importlib.import_module(name)  # reads and writes caches once
    sys.addaudithook(forbid)


def processed(path, execute=True):
    "The notebook as nbdev hands it to Quarto"
    from execnb.nbio import read_nb
    from nbdev.processors import FilterDefaults

    class Unexecuted(FilterDefaults):
        def procs(self): return super().procs().filter(lambda p: p.__name__ != 'exec_show_docs')

    nb = read_nb(path)
    (FilterDefaults if execute else Unexecuted)()(nb)
    return nb


def plain(nb):
    "A processed notebook as ordinary lists and dicts"
    cells = [dict(id=c.get('id', ''), cell_type=c['cell_type'], source=source(c), outputs=json.loads(json.dumps(c.get('outputs', []))))
             for c in nb.cells]
    return dict(cells=cells, frontmatter=dict(getattr(nb, 'frontmatter_', {})))


def stopped(error, saved):
    "Which cell stopped the build, and why"
    code = str(error).partition(':\n')[2].strip() or str(error)
    last = code.splitlines()[-1]
    where = next((c['id'] for c in saved if c['cell_type'] == 'code' and last in source(c)), '?')
    cause = error.__cause__ or error
    return where, f'the build stops at `{head(code)}`: {type(cause).__name__}: {str(cause)[:200]}'


def build(path):
    "Complaints of one notebook as (notebook, cell, words), and the page that the build made of it"
    path = Path(path)
    name, saved = path.name, json.loads(path.read_text(encoding='utf-8'))['cells']
    bad = [(name, c.get('id', i), words) for i, c in enumerate(saved) for words in check_cell(c)]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        try: page = plain(processed(path))
        except BaseException as e:
            if isinstance(e, KeyboardInterrupt): raise
            return [*bad, (name, *stopped(e, saved))], None
        before = plain(processed(path, execute=False))
    for w in told:
        if 'imports and other code' in str(w.message):
            cell = head(str(w.message).partition('---\n')[2])
            bad.append((name, '', f'nbdev warns of a cell with imports and other code: `{cell}`'))
    was = {c['id']: c['outputs'] for c in before['cells'] if not show_doc.search(c['source'])}
    for c in page['cells']:
        if c['id'] in was and c['outputs'] != was[c['id']]:
            bad.append((name, c['id'], f"the build replaces the saved output of `{head(c['source'])}`: keep imports out of it"))
    return bad + [(name, where, words) for where, words in check_entries(saved, page)], page


# --- Reference entries ---

def defined(s):
    "Names that an exported cell documents, in its order: public functions and classes, patched methods as Class.name"
    try: body = ast.parse(s).body
    except SyntaxError: return
    from nbdev.showdoc import showdoc_nm
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith('_'):
            yield showdoc_nm(node)


def entries(page):
    "Reference entries of a page in their order, as (name, Markdown)"
    for c in page['cells']:
        if c['cell_type'] == 'code' and (m := show_doc.search(c['source'])):
            yield m[1], '\n'.join(text(o.get('data', {}).get('text/markdown')) for o in c['outputs'])


def fields(name):
    "Fields of the public data class of that name, as the package exports it; none if it is something else"
    modidx = importlib.import_module('resn_nb._modidx').d['syms']
    for module, names in modidx.items():
        if f'{module}.{name}' in names:
            found = attrgetter(name)(importlib.import_module(module))
            if isinstance(found, type) and dataclasses.is_dataclass(found): return [f.name for f in dataclasses.fields(found)]
    return []


def check_entries(saved, page):
    public = {'export', 'exports'}
    order = {n: c.get('id', '') for c in saved if c['cell_type'] == 'code' and public & options(source(c)).keys()
             for n in defined(source(c))}
    shown = dict(entries(page))
    in_order = [n for n in order if n in shown]
    if in_order != (found := [n for n in shown if n in order]):
        a, b = next((a, b) for a, b in zip(in_order, found, strict=True) if a != b)
        yield order[a], f'the entry of {a} should come before that of {b}, as in the code'
    for name, md in shown.items():
        where = order.get(name, '')
        if name.rpartition('.')[2].startswith('__'): yield where, f'{name} has an entry: a special method needs none'
        inside = [line for block in re.findall(r'^```.*?^```', md, re.M | re.S) for line in block.splitlines()]
        if raw := next((x for x in inside if re.search(r'`\]\(', x)), None): yield where, f'a Markdown link within a signature: {raw.strip()[:70]}'
        if long := next((x for x in inside if len(x) > WIDE), None): yield where, f'a line of the signature of {name} has {len(long)} columns: {long[:60]}'
        for field in fields(name):
            if not re.search(rf'^\* \*\*{field}\*\*: \S', md, re.M): yield where, f'field {name}.{field} has no comment in its entry: write one behind it'


# --- Links ---

def prose(s):
    "Markdown without its code"
    out, fence = [], None
    for line in s.splitlines():
        m = re.match(r'\s*(`{3,}|~{3,})', line)
        if fence: fence = None if m and m[1].startswith(fence) else fence
        elif m: fence = m[1]
        else: out.append(code_span.sub(lambda m: '`' * len(m[0]), line))
    return '\n'.join(out)


def slug(heading):
    "The id that Pandoc gives a heading"
    if m := re.search(r'\{[^}]*#([\w.-]+)[^}]*\}\s*$', heading): return m[1]
    s = re.sub(r'\{[^}]*\}\s*$', '', heading)
    s = re.sub(r'!?\[((?:[^\[\]]|\[[^\]]*\])*)\]\([^)]*\)', r'\1', s)
    s = ''.join(c for c in s if c.isalnum() or c in '_-. ' or unicodedata.category(c)[0] == 'M')
    s = re.sub(r'\s+', '-', s.strip()).lower()
    return re.sub(r'^[\W\d_]+', '', s) or 'section'


def headings(page):
    "Ids of a page: its headings, those of its reference entries, and ids in HTML or braces"
    ids = set()
    for c in page['cells']:
        shown = [c['source']] if c['cell_type'] == 'markdown' else [text(o.get('data', {}).get('text/markdown')) for o in c['outputs']]
        for s in shown:
            ids |= set(re.findall(r'\bid=["\']([\w.-]+)', s)) | set(re.findall(r'\{#([\w.-]+)', s))
            for h in re.findall(r'^#{1,6}\s+(.+?)\s*#*\s*$', fenceless(s), re.M):
                name = slug(h)
                ids.add(next(n for n in (f'{name}-{i}' if i else name for i in range(999)) if n not in ids))
    return ids


def fenceless(s): return fenced.sub('', s)


def targets(page):
    "Links and pictures of a page, as (cell, target)"
    for c in page['cells']:
        shown = [c['source']] if c['cell_type'] == 'markdown' else [text(o.get('data', {}).get('text/markdown')) for o in c['outputs']]
        for s in shown:
            bare = prose(s)
            for t in [t for _, _, t, _ in link.findall(bare)] + html.findall(bare): yield c['id'], t


def check_links(name, page, pages, site):
    "A link leads to a page and a heading that are there, a picture to a file"
    by_url = {p['frontmatter'].get('output-file', ''): n for n, p in pages.items()}
    unmade = {p.name for p in (ROOT/'nbs').glob('*.ipynb')} - pages.keys()  # told of already
    unmade |= {re.sub(r'^[\d_]+', '', Path(n).stem) + '.html' for n in unmade}
    for where, target in targets(page):
        to = target.removeprefix(site).lstrip('/') if target.startswith(site) else target
        if re.match(r'[a-z][a-z0-9+.-]*:', to, re.I): continue
        path, _, anchor = to.partition('#')
        other = by_url.get(path, path) if path else name
        if other in unmade: continue
        if target.startswith(site) and not path: continue
        if other in pages:
            if anchor and anchor not in headings_of(pages, other): yield where, f'link to {target}: {other} has no heading or entry #{anchor}'
        elif not (ROOT/'nbs'/other).exists(): yield where, f'link to {target}: there is no such file in nbs/'


_ids = {}
def headings_of(pages, name):
    if name not in _ids: _ids[name] = headings(pages[name])
    return _ids[name]


# --- The repository ---

def check_tree():
    "Every notebook in the sidebar once; nothing at the top that does not belong there"
    config = yaml.safe_load((ROOT/'_quarto.yml').read_text(encoding='utf-8'))
    listed = re.findall(r'[\w-]+\.ipynb', json.dumps(config['website']['sidebar']))
    there = {p.name for p in (ROOT/'nbs').glob('*.ipynb')}
    yield from (f'{n} stands {listed.count(n)} times in the sidebar of _quarto.yml, right is once' for n in sorted(there | set(listed))
                if listed.count(n) != 1)
    yield from (f'the sidebar names {n}, which is not in nbs/' for n in listed if n not in there)
    link = ROOT/'nbs'/'_quarto.yml'
    if not link.is_symlink() or os.readlink(link) != '../_quarto.yml': yield 'nbs/_quarto.yml should be a link to ../_quarto.yml'
    git = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], cwd=ROOT, capture_output=True, text=True)
    top = {line.partition('/')[0] for line in git.stdout.splitlines()}
    yield from (f'{n} does not belong at the top level' for n in sorted(top - TOP))


def main(names):
    every = sorted((ROOT/'nbs').glob('*.ipynb'))
    from nbdev.config import get_config
    config = get_config(path=ROOT)
    site = config.doc_host + config.doc_baseurl
    bad, pages = [('', '', words) for words in check_tree()], {}
    me = importlib.import_module('pages')  # by name: in a worker, nbdev's shell takes the place of `__main__`
    workers = min(os.cpu_count() or 1, len(every), 8)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context('spawn'), initializer=me.guard) as pool:
        for path, (found, page) in zip(every, pool.map(me.build, every), strict=True):
            if not names or path.name in names: bad += found
            if page: pages[path.name] = page
    for name, page in pages.items():
        if not names or name in names: bad += [(name, where, words) for where, words in check_links(name, page, pages, site)]
    for name, where, words in bad: print(': '.join(filter(None, [f'nbs/{name} [{where}]' if name else '', words])))
    print(f'pages: {len(every)} notebooks, {len(pages)} made, {len(bad)} complaints')
    return 1 if bad else 0


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('notebooks', nargs='*', help='names, as index.ipynb; none: all')
    sys.exit(main({Path(n).name for n in parser.parse_args().notebooks}))
