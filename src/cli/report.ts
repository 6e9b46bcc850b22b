import { SetupError } from '../core/errors.ts'

/** Whether the person asked for details: `AUTOGLM_DEBUG=1` or the log level `debug`. */
export function wantsDetails(env: NodeJS.ProcessEnv, argv: readonly string[]): boolean {
  if (env.AUTOGLM_DEBUG === '1' || env.AUTOGLM_LOG_LEVEL === 'debug') return true
  return argv.includes('--log-level=debug') || argv[argv.indexOf('--log-level') + 1] === 'debug'
}

/** What is written to stderr about a failure: a SetupError is its message, anything else is a fault of ours. */
export function describeFailure(thrown: unknown, details: boolean): string {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown))
  if (error instanceof SetupError) return `error: ${error.message}\n`
  if (details) return `error: unexpected failure\n${error.stack ?? error.message}\n`
  return `error: unexpected failure: ${error.message}\nSet AUTOGLM_DEBUG=1 to see where it happened.\n`
}

/** The reader of our output went away (`autoglm models | head -1`): no failure, and nobody is left to tell. */
export function surviveClosedOutput(onClosed: () => void): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE' && error.code !== 'EIO' && error.code !== 'ERR_STREAM_DESTROYED') throw error
      onClosed()
    })
  }
}
