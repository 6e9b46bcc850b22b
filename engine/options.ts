import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { SetupError } from '../src/core/errors.ts'

export const gpuModes = ['off', 'auto', 'cuda', 'vulkan', 'metal'] as const
export const logLevels = ['debug', 'info', 'warn', 'error', 'silent'] as const

/** How one instance is run: one process, one model, one address. */
export type EngineOptions = {
  /** Path of the GGUF file. */
  modelPath: string
  /** The name that requests give in `model`. */
  name: string
  /** A Unix socket, or TCP. */
  listen: { socketPath: string } | { host: string; port: number }
  /** Sequences decoded together. */
  parallel: number
  /** Sequences that may wait for a free one; a request more is refused. */
  waitingMax: number
  /** Context of each sequence; 0 takes what the model was trained with, at most 4096. */
  contextTokens: number
  /** Threads that decode; 0 takes all cores but one, and at least one. */
  threads: number
  gpu: (typeof gpuModes)[number]
  logLevel: (typeof logLevels)[number]
  /** Largest request body. */
  bodyBytesMax: number
  /** Deepest nesting of a request body. */
  jsonDepthMax: number
  /** How long requests in flight may go on after SIGTERM. */
  drainTimeoutMs: number
}

export const defaultOptions = {
  parallel: 8,
  waitingMax: 64,
  contextTokens: 0,
  threads: 0,
  gpu: 'off',
  logLevel: 'warn',
  bodyBytesMax: 10_485_760,
  jsonDepthMax: 64,
  drainTimeoutMs: 30_000,
} as const satisfies Partial<EngineOptions>

export const contextTokensDefaultMax = 4096

export const usage = `Usage: engine --model PATH (--socket PATH | --port N [--host H]) [options]

  --model PATH          the GGUF file
  --name NAME           name of the model in requests (default: the file's name without .gguf)
  --socket PATH         listen on this Unix socket
  --host H              listen on this address (default 127.0.0.1)
  --port N              listen on this port; 0 takes a free one
  --parallel N          sequences decoded together (default ${defaultOptions.parallel})
  --waiting-max N       sequences that may wait for a free one (default ${defaultOptions.waitingMax})
  --context-tokens N    context of each sequence; 0: as trained, at most ${contextTokensDefaultMax} (default 0)
  --threads N           threads that decode; 0: all cores but one, at least one (default 0)
  --gpu MODE            ${gpuModes.join(', ')} (default ${defaultOptions.gpu})
  --log-level L         ${logLevels.join(', ')} (default ${defaultOptions.logLevel})
  --body-bytes-max N    largest request body (default ${defaultOptions.bodyBytesMax})
  --json-depth-max N    deepest nesting of a request body (default ${defaultOptions.jsonDepthMax})
  --drain-timeout-ms N  how long requests in flight may go on after SIGTERM (default ${defaultOptions.drainTimeoutMs})
  --help                this text
`

const flags = {
  model: { type: 'string' },
  name: { type: 'string' },
  socket: { type: 'string' },
  host: { type: 'string' },
  port: { type: 'string' },
  parallel: { type: 'string' },
  'waiting-max': { type: 'string' },
  'context-tokens': { type: 'string' },
  threads: { type: 'string' },
  gpu: { type: 'string' },
  'log-level': { type: 'string' },
  'body-bytes-max': { type: 'string' },
  'json-depth-max': { type: 'string' },
  'drain-timeout-ms': { type: 'string' },
  help: { type: 'boolean' },
} as const

/**
 * Reads the command line of an instance; null when help was asked for.
 * @throws SetupError that names the flag, its value and what is allowed.
 */
export function parseOptions(argv: readonly string[]): EngineOptions | null {
  const values = readFlags(argv)
  if (values.help === true) return null
  const modelPath = values.model
  if (modelPath === undefined || modelPath === '') {
    throw new SetupError('--model is missing: give the path of a GGUF file.')
  }
  if ((values.socket === undefined) === (values.port === undefined)) {
    throw new SetupError('Give either --socket PATH or --port N to say where the instance listens.')
  }
  const integer = (flag: keyof typeof flags, standard: number, range: { min: number; max: number }) =>
    readInteger({ flag, text: values[flag] as string | undefined, standard, ...range })
  return {
    modelPath,
    name: values.name ?? nameOf(modelPath),
    listen:
      values.socket === undefined
        ? { host: values.host ?? '127.0.0.1', port: integer('port', 0, { min: 0, max: 65_535 }) }
        : { socketPath: values.socket },
    parallel: integer('parallel', defaultOptions.parallel, { min: 1, max: 256 }),
    waitingMax: integer('waiting-max', defaultOptions.waitingMax, { min: 0, max: 10_000 }),
    contextTokens: integer('context-tokens', defaultOptions.contextTokens, { min: 0, max: 10_000_000 }),
    threads: integer('threads', defaultOptions.threads, { min: 0, max: 1024 }),
    gpu: readChoice('gpu', values.gpu, gpuModes) ?? defaultOptions.gpu,
    logLevel: readChoice('log-level', values['log-level'], logLevels) ?? defaultOptions.logLevel,
    bodyBytesMax: integer('body-bytes-max', defaultOptions.bodyBytesMax, { min: 1024, max: 1_073_741_824 }),
    jsonDepthMax: integer('json-depth-max', defaultOptions.jsonDepthMax, { min: 4, max: 1000 }),
    drainTimeoutMs: integer('drain-timeout-ms', defaultOptions.drainTimeoutMs, { min: 0, max: 86_400_000 }),
  }
}

/** Options as the flags that `parseOptions` reads: what a launcher passes to the child process. */
export function toFlags(options: EngineOptions): string[] {
  const listen =
    'socketPath' in options.listen
      ? ['--socket', options.listen.socketPath]
      : ['--host', options.listen.host, '--port', String(options.listen.port)]
  return [
    ...['--model', options.modelPath, '--name', options.name, ...listen],
    ...['--parallel', String(options.parallel), '--waiting-max', String(options.waitingMax)],
    ...['--context-tokens', String(options.contextTokens), '--threads', String(options.threads)],
    ...['--gpu', options.gpu, '--log-level', options.logLevel],
    ...['--body-bytes-max', String(options.bodyBytesMax), '--json-depth-max', String(options.jsonDepthMax)],
    ...['--drain-timeout-ms', String(options.drainTimeoutMs)],
  ]
}

/**
 * Threads that decode. llama.cpp spins at its barriers, so one thread too many on a busy machine costs more than a
 * core too few: where there are more than two cores one is left for everything else, and two cores give one thread.
 */
export function resolveThreads(threads: number, cores = availableParallelism()): number {
  if (threads > 0) return threads
  return cores > 2 ? cores - 1 : 1
}

/** `models/tiny/tiny.gguf` is `tiny`. */
function nameOf(modelPath: string): string {
  const file = modelPath.slice(modelPath.lastIndexOf('/') + 1)
  return file.endsWith('.gguf') ? file.slice(0, -'.gguf'.length) : file
}

function readFlags(argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], options: flags, allowPositionals: false }).values
  } catch (error) {
    throw new SetupError(`${(error as Error).message.split('. ')[0]}. --help lists the flags.`)
  }
}

function readInteger(spec: {
  flag: string
  text: string | undefined
  standard: number
  min: number
  max: number
}): number {
  if (spec.text === undefined) return spec.standard
  const value = /^\d+$/.test(spec.text) ? Number(spec.text) : Number.NaN
  if (value >= spec.min && value <= spec.max) return value
  throw new SetupError(
    `--${spec.flag} is '${spec.text}'; it must be a whole number from ${spec.min} to ${spec.max}.`,
  )
}

function readChoice<T extends string>(flag: string, text: string | undefined, allowed: readonly T[]) {
  if (text === undefined) return undefined
  const found = allowed.find((choice) => choice === text)
  if (found === undefined)
    throw new SetupError(`--${flag} is '${text}'; it must be one of ${allowed.join(', ')}.`)
  return found
}
