import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { modelName } from './payloads.ts'
import {
  cores,
  dataDir,
  findFreePort,
  launch,
  launchOwn,
  scratchDir,
  waitUntilReady,
  type Core,
  type Running,
} from './processes.ts'

/** Something that stands between the clients and the model server. */
export type Proxy = {
  name: string
  /** Before `/v1`. */
  origin: string
  /** What each request must carry to get through. */
  headers: Record<string, string>
  program: Running
}

export const gatewayName = 'open-autoglm'

/** The model server that everything here talks to; its origin. */
export async function startMockUpstream(core: Core = cores.load): Promise<string> {
  const { port } = await launchOwn({
    name: 'mock-upstream',
    file: 'mock-upstream.ts',
    core,
  })
  return `http://127.0.0.1:${port}`
}

export async function startBareProxy(upstream: string, core: Core = cores.measured): Promise<Proxy> {
  const { program, port } = await launchOwn({
    name: 'bare-proxy',
    file: 'reference/bare-proxy.ts',
    args: [upstream],
    core,
  })
  return { name: 'bare proxy', origin: `http://127.0.0.1:${port}`, headers: {}, program }
}

const mainFile = join(import.meta.dirname, '..', 'src', 'main.ts')
const compileCache = join(import.meta.dirname, '..', 'node_modules', '.cache', 'node-compile-cache')

/** The product as its users start it: routing, metrics and one access-log line a request, written to a file. */
export async function startGateway(options: {
  args: readonly string[]
  /** The model that must be served before anything is measured. */
  model: string
  core: Core
  /** What each request must carry to get through. */
  headers?: Record<string, string>
  /** Below the folder of all; by default one of its own at each start. */
  dataFolder?: string
}): Promise<Proxy> {
  const { headers = {} } = options
  const port = await findFreePort()
  const program = launch({
    name: 'gateway',
    command: process.execPath,
    args: [
      '--max-semi-space-size=16',
      mainFile,
      'serve',
      '--port',
      String(port),
      '--log-level',
      'info',
      '--data-dir',
      join(dataDir, options.dataFolder ?? String(port)),
      ...options.args,
    ],
    // As `npm start` does.
    env: { MALLOC_ARENA_MAX: '1', NODE_COMPILE_CACHE: compileCache },
    core: options.core,
  })
  const origin = `http://127.0.0.1:${port}`
  await waitUntilReady(program, `${origin}/readyz`)
  await waitUntilReady(program, `${origin}/v1/models/${options.model}`, headers)
  return { name: gatewayName, origin, headers, program }
}

export async function startGatewayFor(upstream: string, core: Core = cores.measured): Promise<Proxy> {
  return startGateway({ args: ['--upstream', `${upstream}/v1`], model: modelName, core })
}

/** Writes a configuration file, for what flags do not say. JSON is YAML. */
export function writeConfig(name: string, config: object): string {
  mkdirSync(scratchDir, { recursive: true })
  const path = join(scratchDir, `${name}.yaml`)
  writeFileSync(path, JSON.stringify(config, null, 2))
  return path
}
