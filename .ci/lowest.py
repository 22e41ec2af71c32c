#!/usr/bin/env python3
"""The lower bounds that settings.ini declares, as pip constraints.

    python .ci/lowest.py > lowest.txt && pip install -c lowest.txt -e '.[dev]'
"""
import re
from configparser import ConfigParser
from pathlib import Path

ini = ConfigParser(delimiters=['='])
ini.read(Path(__file__).resolve().parents[1]/'settings.ini', encoding='utf-8')
for requirement in ini['DEFAULT']['requirements'].split():
    found = re.fullmatch(r'([\w-]+)>=([\d.]+)(,<[\d.]+)?', requirement)
    if not found:
        raise SystemExit(f'settings.ini: found requirement {requirement!r}, valid is NAME>=LOWEST')
    print(f'{found[1]}=={found[2]}')
