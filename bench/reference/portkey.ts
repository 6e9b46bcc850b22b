import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { cores, findFreePort, launch, scratchDir, waitUntilReady } from '../processes.ts'
import type { Proxy } from '../proxies.ts'

const version = '1.15.2'
export const portkeyName = `Portkey ${version}`

const folder = join(scratchDir, `portkey-${version}`)
const entry = join(folder, 'node_modules', '@portkey-ai', 'gateway', 'build', 'start-server.js')

/** Installs Portkey's open-source gateway from npm into the scratch folder; false, said aloud, when npm cannot. */
export function installPortkey(): boolean {
  if (existsSync(entry) || install()) return true
  console.log('  Portkey could not be installed from npm: left out.')
  return false
}

export async function startPortkey(upstream: string): Promise<Proxy> {
  const port = await findFreePort()
  const program = launch({
    name: 'portkey',
    command: process.execPath,
    args: [entry, `--port=${port}`, '--headless'],
    core: cores.measured,
  })
  const origin = `http://127.0.0.1:${port}`
  await waitUntilReady(program, `${origin}/`)
  const headers = {
    authorization: 'Bearer none',
    'x-portkey-provider': 'openai',
    'x-portkey-custom-host': `${upstream}/v1`,
  }
  return { name: portkeyName, origin, headers, program }
}

function install(): boolean {
  console.log(`  Installing @portkey-ai/gateway@${version} into bench/.scratch …`)
  mkdirSync(folder, { recursive: true })
  const flags = ['--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error', '--prefix', folder]
  const npm = spawnSync('npm', ['install', ...flags, `@portkey-ai/gateway@${version}`], {
    cwd: folder,
    timeout: 120_000,
  })
  return npm.status === 0
}
