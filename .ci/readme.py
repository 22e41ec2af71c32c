#!/usr/bin/env python3
"""README.md from nbs/index.ipynb, without Quarto.

    python .ci/readme.py                   write README.md
    python .ci/readme.py --check           fail if README.md is not what the notebook makes
    python .ci/readme.py --block HEADING   print the shell code under that heading of README.md
"""
import argparse
import difflib
import json
import os
import posixpath
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK, README = ROOT/'nbs'/'index.ipynb', ROOT/'README.md'
BANNER = '<!-- Made from nbs/index.ipynb by .ci/readme.py: edit the notebook, not this file. -->'
HIDDEN = {'hide', 'export', 'exporti', 'default_exp'}  # cells that nbdev leaves off the page
CODE = {'sh', 'bash', 'shell', 'console', 'python', 'py'}

fence = re.compile(r'\s{0,3}(`{3,}|~{3,})\s*\{?\.?([\w-]*)')
# What can follow a link's opening: [text](HERE, src="HERE, href="HERE, and the definition [name]: HERE
link = re.compile(r'(\]\(<?|\b(?:src|href)=["\']|^\s{0,3}\[[^\]]+\]:\s+<?)([^)>"\'\s]+)')


def lines_with_state(text):
    "Each line of markdown as (line, language, edge): language is None outside code, edge marks a fence line"
    mark = lang = None
    for line in text.splitlines():
        m = fence.match(line)
        if mark is None and m:
            mark, lang = m.groups()
            yield line, lang, True
        elif mark and m and line.strip().startswith(mark) and not line.strip().strip(mark[0]):
            yield line, lang, True
            mark = lang = None
        else:
            yield line, lang, False


def code_blocks(text):
    "Fenced code as (heading it stands under, language, code)"
    heading, block = '', []
    for line, lang, edge in lines_with_state(text):
        if lang is None and (m := re.match(r'#+\s+(.*?)\s*(?:\{.*\})?$', line)):
            heading = m[1]
        elif lang is not None and not edge:
            block.append(line)
        elif edge and block:
            yield heading, lang, '\n'.join(block)
            block = []


def from_root(target):
    "A link as seen from nbs/ as one seen from the top"
    if re.match(r'[a-z][a-z0-9+.-]*:|[#/]', target, re.I):
        return target
    path, mark, anchor = target.partition('#')
    return posixpath.normpath(posixpath.join('nbs', path)) + mark + anchor


def figure(line):
    "A picture with caption and `fig-alt`, for Quarto, as GitHub shows both: its alt text, and the caption below it"
    m = re.fullmatch(r'\s*!\[(.*)\]\(([^)]*)\)\{fig-alt="([^"]*)"\}\s*', line)
    return [f'![{m[3]}]({m[2]})', '', f'*{m[1]}*'] if m else [line]


def markdown(source):
    "A markdown cell for GitHub: links seen from the top, Quarto's own `{...}` after links and `:::` lines left out"
    out, source = [], '\n'.join(x for old in source.splitlines() for x in figure(old))
    for line, lang, _ in lines_with_state(source):
        if lang is None:
            if line.startswith(':::'):
                continue
            parts = re.split(r'(`+[^`]*`+)', line)  # every second part is code
            parts[::2] = [link.sub(lambda m: m[1] + from_root(m[2]), p) for p in parts[::2]]
            line = re.sub(r'(\]\([^)]*\))\{[^}]*\}', r'\1', ''.join(parts))
        out.append(line)
    return '\n'.join(out)


def output(out):
    "What a cell printed or showed, as text; pictures and HTML have none here"
    data = out.get('data', {})
    if out['output_type'] == 'error' or out.get('name') == 'stderr' or any(k.startswith('image/') for k in data):
        return ''
    if 'text/markdown' in data:
        return markdown(''.join(data['text/markdown'])).strip('\n')
    text = re.sub(r'\x1b\[[0-9;]*m', '', ''.join(out.get('text', data.get('text/plain', ''))))
    return '\n'.join('    ' + line.rstrip() if line.strip() else '' for line in text.strip('\n').splitlines())


def code_cell(cell):
    "A code cell as (code, outputs), after its `#|` directives"
    lines, directives = ''.join(cell['source']).splitlines(), {}
    while lines and (lines[0].startswith('#|') or not lines[0].strip()):
        key, *value = re.split(r'[:\s]+', lines.pop(0)[2:].strip(), maxsplit=1)
        directives[key] = ' '.join(value).lower()
    if HIDDEN & directives.keys() or directives.get('include') == 'false':
        return '', ''
    code = '\n'.join(line for line in lines if not re.search(r'#\|\s*hide_line\s*$', line)).rstrip()
    shown = '\n\n'.join(filter(None, map(output, cell['outputs'])))
    return '' if directives.get('echo') == 'false' else code, '' if directives.get('output') == 'false' else shown


def render(nb):
    "README.md, and the code blocks it must hold"
    parts, blocks = [BANNER], []
    for cell in nb['cells']:
        if cell['cell_type'] == 'markdown':
            source = ''.join(cell['source'])
            parts.append(markdown(source))
            blocks += [(lang, code) for _, lang, code in code_blocks(source)]
        elif cell['cell_type'] == 'code':
            code, shown = code_cell(cell)
            parts += [f'```python\n{code}\n```' if code else '', shown]
            blocks += [('python', code)] if code else []
    return '\n\n'.join(p.strip('\n') for p in parts if p.strip()) + '\n', [b for b in blocks if b[0] in CODE]


def check(text, blocks):
    "Complaints about README.md; none if it is what the notebook makes"
    if not README.exists():
        return ['README.md is missing']
    old = README.read_text(encoding='utf-8')
    have = [(lang, code) for _, lang, code in code_blocks(old) if lang in CODE]
    bad = [f'{who} has this {lang} code and {other} has not:\n{code}' for who, these, other, those in
           [('nbs/index.ipynb', blocks, 'README.md', have), ('README.md', have, 'nbs/index.ipynb', blocks)]
           for lang, code in these if (lang, code) not in those]
    diff = list(difflib.unified_diff(old.splitlines(), text.splitlines(), 'README.md', 'nbs/index.ipynb', n=0, lineterm=''))
    if diff:
        more = [f'... {len(diff) - 40} more lines'] if len(diff) > 40 else []
        bad.append('\n'.join(diff[:40] + more))
    return bad


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--check', action='store_true', help='write nothing; exit 1 if README.md is stale')
    what.add_argument('--block', metavar='HEADING', help='print the shell code under HEADING')
    args = parser.parse_args()
    if args.block:
        blocks = code_blocks(README.read_text(encoding='utf-8'))
        print('\n'.join(code for heading, lang, code in blocks if heading == args.block and lang in {'sh', 'bash', 'shell'}))
        sys.exit()
    text, blocks = render(json.loads(NOTEBOOK.read_text(encoding='utf-8')))
    if args.check:
        if bad := check(text, blocks):
            sys.exit('\n'.join([*bad, 'README.md is stale: run `python .ci/readme.py`']))
    else:
        beside = README.with_suffix('.md.tmp')
        beside.write_text(text, encoding='utf-8', newline='\n')
        os.replace(beside, README)
