import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { cores, findFreePort, launch, scratchDir, waitUntilReady } from '../processes.ts'
import type { Proxy } from '../proxies.ts'

const nginxName = 'nginx'

/** Whether nginx can be started; said aloud when it cannot. */
export function findNginx(): boolean {
  if (spawnSync('nginx', ['-v']).status === 0) return true
  console.log('  nginx is not on the PATH: left out. (Debian: apt-get install nginx-light)')
  return false
}

/** nginx as a reverse proxy that keeps its connections: the floor of floors. */
export async function startNginx(upstream: string): Promise<Proxy> {
  const folder = join(scratchDir, 'nginx')
  mkdirSync(folder, { recursive: true })
  const port = await findFreePort()
  const file = join(folder, 'nginx.conf')
  writeFileSync(file, describe({ folder, port, upstream: new URL(upstream).host }))
  const program = launch({
    name: 'nginx',
    command: 'nginx',
    args: ['-p', folder, '-e', 'stderr', '-c', file],
    core: cores.measured,
  })
  const origin = `http://127.0.0.1:${port}`
  await waitUntilReady(program, `${origin}/v1/models`)
  return { name: nginxName, origin, headers: {}, program }
}

function describe({ folder, port, upstream }: { folder: string; port: number; upstream: string }): string {
  const places = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  return `
    daemon off;
    worker_processes 1;
    pid ${folder}/nginx.pid;
    events { worker_connections 4096; }
    http {
      ${places.map((place) => `${place}_temp_path ${folder}/${place};`).join('\n      ')}
      access_log ${folder}/access.log;
      keepalive_requests 1000000;
      upstream models {
        server ${upstream};
        keepalive 64;
        keepalive_requests 1000000;
      }
      server {
        listen 127.0.0.1:${port};
        location / {
          proxy_pass http://models;
          proxy_http_version 1.1;
          proxy_set_header Connection "";
        }
      }
    }
  `
}
