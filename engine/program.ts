import { SetupError } from '../src/core/errors.ts'
import { parseOptions, usage } from './options.ts'
import { runInstance, type InstanceInfo, type RunningInstance } from './run.ts'

/**
 * The messages that an instance sends over its IPC channel, when it was started with one: `ready` once it listens,
 * or `failed` before it exits with code 1.
 */
export type InstanceMessage = { type: 'ready'; model: InstanceInfo } | { type: 'failed'; message: string }

/** The program of an instance, until it listens or has failed. */
export async function main(argv: readonly string[]): Promise<void> {
  // Nobody reads any more what it says: no reason to end.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})
  // Without its parent an instance has no purpose, not even while it loads: no orphan stays behind.
  process.once('disconnect', () => process.exit(0))
  if (process.send && !process.connected) process.exit(0)
  let running: RunningInstance | null = null
  let signals = 0
  const onSignal = () => {
    signals += 1
    // A second signal forces, and while the model loads there is nothing to finish.
    if (signals > 1 || running === null) process.exit(signals > 1 ? 1 : 0)
    void running.stop().then(
      () => process.exit(0),
      () => process.exit(1),
    )
  }
  process.on('SIGTERM', onSignal)
  // Ctrl-C on a terminal reaches children too. One with a parent leaves the order of stopping to it.
  process.on('SIGINT', process.send ? () => {} : onSignal)
  try {
    const options = parseOptions(argv)
    if (options === null) {
      // Its channel to a parent would keep the process alive.
      process.stdout.write(usage, () => process.exit(0))
      return
    }
    running = await runInstance(options)
    announce(running.info)
  } catch (error) {
    await reportFailure(error)
  }
}

function announce(info: InstanceInfo): void {
  const message: InstanceMessage = { type: 'ready', model: info }
  if (process.send) process.send(message)
  else process.stdout.write(`${info.name} is ready on ${info.url ?? info.socketPath}\n`)
}

/** A mistake of the operator is its sentence alone; a stack trace helps only with a fault of the program. */
async function reportFailure(error: unknown): Promise<void> {
  const isSetup = error instanceof SetupError
  const message = isSetup ? error.message : `The instance failed to start: ${String(error)}`
  process.stderr.write(`${isSetup ? message : String((error as Error).stack ?? error)}\n`)
  if (process.send) {
    const failed: InstanceMessage = { type: 'failed', message }
    await new Promise<void>((resolve) => process.send?.(failed, () => resolve()))
  }
  process.exit(1)
}
