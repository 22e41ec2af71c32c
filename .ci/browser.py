#!/usr/bin/env python3
"""Look at the built site in a real browser: widths, cut code, contrast, pictures, links and the console.

    python .ci/browser.py                    all pages of _docs; "not run" where there is no Chromium or no _docs
    python .ci/browser.py index.html         these pages only
    python .ci/browser.py --table            also the length of each page, in screens of 900 pixels
    python .ci/browser.py --shots FOLDER     keep screenshots: 1280 and 390 pixels wide, light and dark
    python .ci/browser.py --mathjax FOLDER   MathJax from that folder (npm's `mathjax`), nothing else from outside

Needs Python and a Chromium (its path may stand in $CHROMIUM), no package: the browser is spoken to through a pipe.
"""
import argparse
import base64
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from urllib.parse import unquote, urldefrag, urlsplit

ROOT = Path(__file__).resolve().parents[1]
NAMES = 'chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome', 'chrome'
FLAGS = ('--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking '
         '--disable-component-update --disable-sync --hide-scrollbars --remote-debugging-pipe').split()
PHONE, DESK = (390, 844), (1280, 900)

# What a page says of itself, at the width and in the theme that are set when it is asked. Lists of complaints.
LOOK = r'''
async () => {
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
  const tall = document.documentElement.scrollHeight;   // as it opens, folded code folded
  document.querySelectorAll('details').forEach(d => d.open = true);
  await new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)));
  const all = q => [...document.querySelectorAll(q)], said = (e, n=60) => e.textContent.trim().replace(/\s+/g, ' ').slice(0, n);
  const wide = document.documentElement.clientWidth, page = document.documentElement.scrollWidth;
  const scrolls = e => { for (let p = e.parentElement; p && p !== document.body; p = p.parentElement)
    if (getComputedStyle(p).overflowX !== 'visible') return true; return false };
  const out = {tall, wide: [], cut: [], broken: [], pale: [], pictures: []};
  if (page > wide) {
    const over = all('main *').filter(e => e.getBoundingClientRect().right > wide + 1 && !scrolls(e));
    out.wide.push(`${page} of ${wide} pixels: ` + over.slice(-3).map(e => `<${e.tagName.toLowerCase()}> ${said(e, 40)}`).join(' | '));
  }
  for (const pre of all('main div.sourceCode pre'))
    if (pre.scrollWidth > pre.clientWidth + 1) {
      const long = pre.textContent.split('\n').reduce((a, b) => a.length < b.length ? b : a);
      out.cut.push(`${long.length} columns: ` + long.trim().slice(0, 80));
    }
  out.cut.sort((a, b) => parseInt(a) - parseInt(b));
  for (const cell of all('main td, main th')) {   // a word stands on one line; it may end at its own hyphen or slash
    const walk = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), range = document.createRange();
    for (let node; node = walk.nextNode();)
      for (const m of node.data.matchAll(/[\p{L}\p{N}]{2,24}/gu)) {
        range.setStart(node, m.index); range.setEnd(node, m.index + m[0].length);
        if (new Set([...range.getClientRects()].map(r => Math.round(r.top / 8))).size > 1) out.broken.push(m[0]);
      }
  }
  const rgb = s => { const c = s.match(/[\d.]+/g).map(Number); return c.length < 4 ? [...c, 1] : c };
  const light = c => c.slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);
  const behind = e => { const layers = [];
    for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); layers.push(c); if (c[3] === 1) break }
    return layers.reverse().reduce((b, c) => b.map((v, i) => v * (1 - c[3]) + c[i] * c[3]), [255, 255, 255]) };
  for (const e of all('main :not(pre) > code, main p, main td, main th, main li, main figcaption, main a, main summary')) {
    if (!said(e)) continue;
    const back = behind(e), c = rgb(getComputedStyle(e).color), ink = back.map((v, i) => v * (1 - c[3]) + c[i] * c[3]);
    const [a, b] = [light(ink), light(back)].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
    if (ratio < (e.tagName === 'CODE' ? 4.5 : 3)) out.pale.push(`<${e.tagName.toLowerCase()}> ${ratio.toFixed(1)}: ${said(e, 40)}`);
  }
  for (const img of all('main img')) {
    const name = img.src.split('/').pop().slice(0, 60), cap = img.closest('figure')?.querySelector('figcaption');
    img.loading = 'eager'; await img.decode().catch(() => 0);
    if (!img.naturalWidth) out.pictures.push(`${name}: does not load`);
    if (!img.alt.trim()) out.pictures.push(`${name}: no alt text`);
    else if (cap && said(cap, 999).includes(img.alt.trim())) out.pictures.push(`${name}: its alt text is its caption, too`);
  }
  out.ids = all('[id]').map(e => e.id); out.links = all('a[href]').map(a => a.href);
  out.typeset = !document.querySelector('.math') || !!document.querySelector('mjx-container, .katex, math');
  out.failed = all('.MathJax_Error, mjx-merror').map(e => said(e.closest('.math') || e));
  return JSON.stringify(out);
}'''


class Chromium:
    "A headless browser with one page, through the DevTools protocol on file descriptors 3 and 4"
    def __init__(self, path, profile, offline=False):
        there, self.out = os.pipe()
        self.inp, back = os.pipe()

        def place():  # in the child: first out of the way of 3 and 4, then there
            a, b = (fcntl.fcntl(f, fcntl.F_DUPFD, 10) for f in (there, back))
            os.dup2(a, 3)
            os.dup2(b, 4)
        flags = [*FLAGS, f'--user-data-dir={profile}'] + ['--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1'] * offline
        quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.process = subprocess.Popen([path, *flags, 'about:blank'], preexec_fn=place, close_fds=False, **quiet)
        os.close(there)
        os.close(back)
        self.count, self.session, self.rest, self.listeners = 0, None, b'', []
        target = self('Target.createTarget', url='about:blank')['targetId']
        self.session = self('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'): self(f'{domain}.enable')

    def message(self):
        while b'\0' not in self.rest:
            if not (more := os.read(self.inp, 1 << 20)): raise EOFError('the browser closed its pipe')
            self.rest += more
        one, self.rest = self.rest.split(b'\0', 1)
        return json.loads(one)

    def send(self, method, **params):
        self.count += 1
        body = dict(id=self.count, method=method, params=params) | (dict(sessionId=self.session) if self.session else {})
        data = json.dumps(body).encode() + b'\0'
        while data: data = data[os.write(self.out, data):]
        return self.count

    def until(self, done):
        "The first message that `done` holds true; the listeners are told of those before"
        while True:
            m = self.message()
            if done(m): return m
            if 'method' in m:
                for f in self.listeners: f(m['method'], m['params'])

    def __call__(self, method, **params):
        number = self.send(method, **params)
        answer = self.until(lambda m: m.get('id') == number)
        if 'error' in answer: raise RuntimeError(f"{method}: {answer['error']}")
        return answer['result']

    def open(self, url):
        self('Page.navigate', url=url)
        self.until(lambda m: m.get('method') == 'Page.loadEventFired')

    def ask(self, function):
        got = self('Runtime.evaluate', expression=f'({function})()', awaitPromise=True, returnByValue=True)
        if 'exceptionDetails' in got: raise RuntimeError(got['exceptionDetails'])
        return got['result'].get('value')

    def screen(self, size, scheme='light'):
        self('Emulation.setDeviceMetricsOverride', width=size[0], height=size[1], deviceScaleFactor=1, mobile=False)
        self('Emulation.setEmulatedMedia', features=[dict(name='prefers-color-scheme', value=scheme)])

    def shot(self, path):
        size = self('Page.getLayoutMetrics')['cssContentSize']
        clip = dict(x=0, y=0, width=size['width'], height=min(size['height'], 6000), scale=1)
        data = self('Page.captureScreenshot', format='png', clip=clip, captureBeyondViewport=True)['data']
        path.write_bytes(base64.b64decode(data))

    def close(self):
        self.send('Browser.close')
        try: self.process.wait(20)
        except subprocess.TimeoutExpired: self.process.kill()
        os.close(self.out)
        os.close(self.inp)


class Watch:
    "What goes wrong while a page is open, and files from outside that do not come"
    def __init__(self, browser, here, mathjax=None):
        self.browser, self.here, self.mathjax = browser, here, mathjax
        browser.listeners.append(self)
        if mathjax: browser('Fetch.enable', patterns=[dict(urlPattern='*/mathjax@3*')])
        self.clear()

    def clear(self): self.errors, self.missing, self.urls = [], [], {}

    def __call__(self, event, p):
        if event == 'Fetch.requestPaused': self.fulfil(p)
        elif event == 'Network.requestWillBeSent': self.urls[p['requestId']] = p['request']['url']
        elif event == 'Network.loadingFailed': self.lost(self.urls.get(p['requestId'], ''), p['errorText'])
        elif event == 'Network.responseReceived' and p['response']['status'] >= 400:
            self.lost(p['response']['url'], p['response']['status'])
        elif event == 'Runtime.exceptionThrown':
            d = p['exceptionDetails']
            self.errors.append(d.get('exception', {}).get('description', d['text']).splitlines()[0])
        elif event == 'Runtime.consoleAPICalled' and p['type'] == 'error':
            self.errors.append(' '.join(str(a.get('value', a.get('description', ''))) for a in p['args']))
        elif event == 'Log.entryAdded' and p['entry']['level'] == 'error' and p['entry']['source'] != 'network':
            self.errors.append(p['entry']['text'])

    def lost(self, url, why):
        if url.startswith(self.here): self.errors.append(f'{url[len(self.here):]}: {why}')
        elif url.startswith('http'): self.missing.append(url)

    def fulfil(self, p):
        file = self.mathjax/re.sub(r'.*/mathjax@3[^/]*/', '', urlsplit(p['request']['url']).path)
        if file.is_file():
            kind = dict(js='text/javascript', woff='font/woff').get(file.suffix[1:], 'application/octet-stream')
            head = [dict(name='Content-Type', value=kind), dict(name='Access-Control-Allow-Origin', value='*')]
            self.browser.send('Fetch.fulfillRequest', requestId=p['requestId'], responseCode=200, responseHeaders=head,
                              body=base64.b64encode(file.read_bytes()).decode())
        else: self.browser.send('Fetch.failRequest', requestId=p['requestId'], errorReason='Failed')

    def said(self):
        "Errors, less those that follow from a library that did not come (`define`, `require`, `$`)"
        follows = re.compile(r'\b(define|require|requirejs|jQuery|\$) is not defined')
        return [e for e in self.errors if not (self.missing and follows.search(e))]


def look(browser, watch, url, shots=None):
    "Complaints about one page, its ids and its links"
    watch.clear()
    bad, views = [], [('light', DESK), ('light', PHONE), ('dark', PHONE), ('dark', DESK)]
    browser.screen(DESK)
    browser.open(url)
    for scheme, size in views:
        browser.screen(size, scheme)
        if scheme == 'dark' and size == PHONE: browser.open(url)  # the page chooses its theme when it loads
        seen = json.loads(browser.ask(LOOK))
        if (scheme, size) == ('light', DESK): screens = seen['tall'] / DESK[1]
        where = f'{size[0]} pixels, {scheme}'
        kinds = dict(pale='too little contrast')
        if scheme == 'light': kinds |= dict(wide='wider than the screen')
        if (scheme, size) == ('light', DESK):
            kinds |= dict(cut='a code line is cut', pictures='picture', failed='an equation failed')
        if (scheme, size) == ('light', PHONE): kinds |= dict(broken='words of a table are broken')
        for kind, words in kinds.items():
            if seen[kind]: bad.append(f"{where}: {words}: {len(seen[kind])}, as " + '; '.join(seen[kind][:3]))
        if shots:
            stem = Path(urlsplit(url).path).stem
            browser.shot(shots/f'{stem}-{size[0]}-{scheme}.png')
    bad += [f'console: {e}' for e in dict.fromkeys(watch.said())]
    return bad, seen | dict(screens=screens)


def dead(pages, here):
    "Links within the site, written with its address too, that lead nowhere, as (page, complaint)"
    site = re.search(r'site-url: (\S+)', (ROOT/'_quarto.yml').read_text(encoding='utf-8'))[1].rstrip('/') + '/'
    for name, seen in pages.items():
        for link in dict.fromkeys(seen['links']):
            path, anchor = urldefrag(link.replace(site, here))
            if not path.startswith(here): continue
            to = unquote(path[len(here):]) or 'index.html'
            if to not in pages and not (DOCS/to).is_file(): yield name, f'link to {to}, which is no page'
            elif anchor and to in pages and unquote(anchor) not in pages[to]['ids']:
                yield name, f'link to {to}#{anchor}, where nothing has that id'


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_): pass


def lengths(pages, table):
    "How long the pages are when they open, in screens of 1280 × 900"
    if table:
        for name, seen in sorted(pages.items(), key=lambda p: -p[1]['screens']): print(f"{seen['screens']:6.1f} {name}")
    screens = [seen['screens'] for seen in pages.values()]
    print(f'length: {median(screens):.1f} screens of {DESK[1]} pixels in the median, {max(screens):.1f} at most')


def main(docs, names, shots, mathjax, table):
    exe = os.environ.get('CHROMIUM') or next(filter(None, map(shutil.which, NAMES)), None)
    every = sorted(p.relative_to(docs).as_posix() for p in docs.rglob('*.html') if 'site_libs' not in p.parts)
    if not exe or not every:
        return print('browser: not run,', 'no Chromium found' if not exe else f'no page in {docs} (nbdev_docs makes them)')
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=docs))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here, pages, complaints, plain, missing = f'http://127.0.0.1:{server.server_port}/', {}, [], [], set()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Chromium(exe, profile, offline=bool(mathjax))
        try:
            watch = Watch(browser, here, mathjax)
            for name in names or every:
                bad, pages[name] = look(browser, watch, here + name, shots)
                complaints += [(name, b) for b in bad]
                missing |= {urlsplit(u).netloc for u in watch.missing}
                if not pages[name]['typeset']: plain.append(name)
        finally: browser.close()
    server.shutdown()
    if not names: complaints += dead(pages, here)
    for page, words in sorted(complaints): print(f'{page}: {words}')
    if missing: print('not loaded, and not counted:', *sorted(missing))
    if plain: print(f'equations were not typeset on {len(plain)} pages, so their widths say nothing: MathJax did not load')
    lengths(pages, table)
    print(f'browser: {len(pages)} pages, {len(complaints)} complaints')
    return 1 if complaints else 0


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pages', nargs='*', help='pages, as index.html; none: all')
    parser.add_argument('--docs', type=Path, default=ROOT/'_docs', help='the built site')
    parser.add_argument('--shots', type=Path, help='keep screenshots in this folder')
    parser.add_argument('--mathjax', type=Path, help="a folder with MathJax's es5/")
    parser.add_argument('--table', action='store_true', help='the length of each page')
    args = parser.parse_args()
    if args.shots: args.shots.mkdir(parents=True, exist_ok=True)
    DOCS = args.docs.resolve()
    sys.exit(main(DOCS, args.pages, args.shots, args.mathjax, args.table))
