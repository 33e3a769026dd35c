// Bundles the page into dist/, or with --tests the tests into node_modules/.cache.
import { cp, mkdir, readdir, rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = fileURLToPath(new URL('.', import.meta.url));
const options = { bundle: true, legalComments: 'none', logLevel: 'warning', absWorkingDir: here };

if (process.argv.includes('--tests')) {
  const outdir = `${here}node_modules/.cache/roost-room`;
  await rm(outdir, { recursive: true, force: true });
  const names = (await readdir(`${here}tests`)).filter((name) => name.endsWith('.test.ts'));
  await build({
    ...options,
    entryPoints: names.map((name) => `tests/${name}`),
    outdir,
    outExtension: { '.js': '.mjs' },
    format: 'esm',
    platform: 'node',
    target: 'node18',
    sourcemap: 'inline',
  });
} else {
  const outdir = `${here}dist`;
  await rm(outdir, { recursive: true, force: true });
  await mkdir(outdir);
  await cp(`${here}page`, outdir, { recursive: true });
  await build({
    ...options,
    entryPoints: { room: 'src/main.ts' },
    outdir,
    format: 'iife',
    platform: 'browser',
    target: 'es2022',
    minify: true,
    sourcemap: 'linked',
  });
}
