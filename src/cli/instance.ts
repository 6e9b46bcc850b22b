import { resolve } from 'node:path'
import { nameModel } from '../config/flags.ts'
import { systemClock } from '../core/clock.ts'
import { resolveModelFile } from '../fleet/model-file.ts'
import { makeProgress } from './progress.ts'

export type InstanceFlags = {
  model: string
  name?: string
  host?: string
  port?: string
  socket?: string
  parallel?: string
  waitingMax?: string
  contextTokens?: string
  threads?: string
  gpu?: string
  logLevel?: string
  dataDir?: string
}

const passedOn = {
  parallel: '--parallel',
  waitingMax: '--waiting-max',
  contextTokens: '--context-tokens',
  threads: '--threads',
  gpu: '--gpu',
  logLevel: '--log-level',
} as const

const portDefault = '8081'

/** The command line of the engine that stands for ours. */
export function toEngineFlags(flags: InstanceFlags, modelPath: string): string[] {
  const listen =
    flags.socket !== undefined && flags.port === undefined && flags.host === undefined
      ? ['--socket', flags.socket]
      : [
          ...['--host', flags.host ?? '127.0.0.1', '--port', flags.port ?? portDefault],
          // Both were given: the engine says that it takes one.
          ...(flags.socket === undefined ? [] : ['--socket', flags.socket]),
        ]
  const rest = Object.entries(passedOn).flatMap(([key, flag]) => {
    const value = flags[key as keyof typeof passedOn]
    return value === undefined ? [] : [flag, value]
  })
  return ['--model', modelPath, '--name', flags.name ?? nameModel(flags.model), ...listen, ...rest]
}

/** Runs one model instance in this process; it goes on until a signal stops it. Resolves when it is ready. */
export async function runAlone(flags: InstanceFlags): Promise<number> {
  const showProgress = makeProgress(process.stderr, systemClock)
  const { path } = await resolveModelFile(flags.model, {
    dataDir: resolve(flags.dataDir ?? '.autoglm'),
    onProgress: (progress) => showProgress({ label: flags.model, ...progress }),
  })
  const { main } = await import('../../engine/program.ts')
  await main(toEngineFlags(flags, path))
  return 0
}
