"Everything about the package is in settings.ini; this hands it to setuptools."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.sdist import sdist

here = Path(__file__).parent
ini = ConfigParser(delimiters=['='])
ini.read(here/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']

extras = {k.removesuffix('_requirements'): v.split() for k, v in cfg.items() if k.endswith('_requirements')}
status, audience, language = int(cfg['status']), cfg['audience'], cfg['language']
statuses = ['Planning', 'Pre-Alpha', 'Alpha', 'Beta', 'Production/Stable', 'Mature', 'Inactive']
oldest = int(cfg['min_python'].split('.')[1])


class SourceDistribution(sdist):
    "What setup.py reads goes along: without settings.ini nothing could be built from it."
    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, [*files, 'settings.ini', 'constraints.txt', 'CHANGELOG.md'])


setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=(here/'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'],
    license_expression={'apache2': 'Apache-2.0'}[cfg['license']],
    license_files=['LICENSE'],
    url=cfg['git_url'],
    project_urls={'Documentation': cfg['doc_host'] + cfg['doc_baseurl']},
    keywords=cfg['keywords'].split(),
    classifiers=[
        f'Development Status :: {status} - {statuses[status - 1]}',
        f'Intended Audience :: {audience}',
        f'Natural Language :: {language}',
        'Programming Language :: Python :: 3',
        *(f'Programming Language :: Python :: 3.{minor}' for minor in range(oldest, 15)),
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    cmdclass=dict(sdist=SourceDistribution),
    packages=find_packages(include=['resn_nb', 'resn_nb.*']),
    python_requires='>=' + cfg['min_python'],
    install_requires=cfg['requirements'].split(),
    extras_require=extras,
    entry_points={
        'console_scripts': cfg['console_scripts'].split(),
        'nbdev': ['resn_nb = resn_nb._modidx:d'],  # lets nbdev turn `names` in the pages into links
    },
)
