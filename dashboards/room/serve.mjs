// Serves dist/ on loopback: `node serve.mjs [--port 0]`. One line of JSON on standard output says where.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';

const FILES = {
  '/': ['index.html', 'text/html; charset=utf-8'],
  '/index.html': ['index.html', 'text/html; charset=utf-8'],
  '/room.js': ['room.js', 'text/javascript; charset=utf-8'],
  '/room.js.map': ['room.js.map', 'application/json'],
  '/style.css': ['style.css', 'text/css; charset=utf-8'],
};

const { values } = parseArgs({ options: { port: { type: 'string', default: '0' } } });
const port = Number(values.port);
if (!Number.isInteger(port) || port < 0 || port > 65535) {
  console.error(`--port ${values.port}: expected a port, 0 to 65535`);
  process.exit(2);
}

const server = createServer(answer);
server.on('error', (error) => {
  console.error(`cannot listen on 127.0.0.1:${port}: ${error.message}`);
  process.exit(1);
});
server.listen(port, '127.0.0.1', () => {
  const ready = { ready: true, listeners: { page: `127.0.0.1:${server.address().port}` } };
  console.log(JSON.stringify(ready));
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0));

async function answer(request, response) {
  const [name, type] = FILES[request.url.split('?')[0]] ?? [];
  if (!name) return response.writeHead(404).end('not found\n');
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return response.writeHead(405, { allow: 'GET, HEAD' }).end();
  try {
    const body = await readFile(new URL(`dist/${name}`, import.meta.url));
    response.writeHead(200, { 'content-type': type, 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' });
    response.end(request.method === 'HEAD' ? undefined : body);
  } catch {
    response.writeHead(503).end('dist/ is missing: run npm run build\n');
  }
}
