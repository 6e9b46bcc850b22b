import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startApp, type RunningApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config/load.ts'
import type { Config } from '../../src/config/schema.ts'

type Tree = Record<string, unknown>

/** A configuration from the parts that matter to a test: the rest are the defaults, the port is free, the log silent. */
export async function makeConfig(tree: Tree, env: NodeJS.ProcessEnv = {}): Promise<Config> {
  const folder = await mkdtemp(join(tmpdir(), 'autoglm-test-'))
  const file = join(folder, 'autoglm.yaml')
  const whole = {
    log: { level: 'silent' },
    ...tree,
    server: { port: 0, drainTimeoutMs: 5_000, ...(tree['server'] as Tree | undefined) },
  }
  await writeFile(file, JSON.stringify(whole))
  try {
    return loadConfig({ file, env, flags: {}, cwd: folder })
  } finally {
    await rm(folder, { recursive: true })
  }
}

export type TestGateway = RunningApp & AsyncDisposable & { url: string }

/** The whole server in this process. Stopped at the end of the test that uses it (`await using`). */
export async function startGateway(tree: Tree, env: NodeJS.ProcessEnv = {}): Promise<TestGateway> {
  const folder = await mkdtemp(join(tmpdir(), 'autoglm-data-'))
  const app = await startApp(await makeConfig({ dataDir: folder, ...tree }, env), { version: 'test', env })
  const dispose = async () => {
    await app.stop({ force: true })
    await rm(folder, { recursive: true, force: true })
  }
  return Object.assign(app, { [Symbol.asyncDispose]: dispose })
}

/** An upstream of the configuration. */
export const upstream = (name: string, url: string, more: Tree = {}) => ({
  name,
  url,
  models: { m: 'm' },
  ...more,
})

export function post(url: string, path: string, body: unknown, more: RequestInit = {}): Promise<Response> {
  return fetch(url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(more.headers as Record<string, string>) },
    body: typeof body === 'string' ? body : JSON.stringify(body),
    ...(more.signal ? { signal: more.signal } : {}),
  })
}

export const chat = (more: Tree = {}) => ({
  model: 'm',
  messages: [{ role: 'user', content: 'Hi' }],
  ...more,
})

/** The value of one series of /metrics, such as `http_requests_total{method="POST",…}`; 0 when it is not there. */
export async function readMetric(url: string, series: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${series} `))
  return line ? Number(line.slice(series.length + 1)) : 0
}
