import { isatty } from 'node:tty'
import type { Role, RunningApp } from '../app.ts'
import { findConfigFile } from '../config/config-file.ts'
import type { Flags } from '../config/flags.ts'
import { loadConfig } from '../config/load.ts'
import type { Config } from '../config/schema.ts'
import { watchConfig } from '../config/watch.ts'
import { systemClock } from '../core/clock.ts'
import { SetupError } from '../core/errors.ts'
import { refuseOpenDoor } from '../gateway/auth/exposure.ts'
import { resolveModelFile } from '../fleet/model-file.ts'
import { formatBanner, formatWorkerBanner } from './banner.ts'
import { makeProgress } from './progress.ts'
import { exitCodes, listenForStop, type StopSignal } from './stop-signals.ts'
import { hasTerminal } from './terminal.ts'
import { readVersion } from './version.ts'

/** How long a forced stop may take before the process ends anyway. */
const forceTimeoutMs = 2_000

const say = (text: string) => process.stdout.write(`${text}\n`)

/** Fetches what has to be downloaded, with progress, and finds a missing or broken file before anything starts. */
async function fetchModels(config: Config, signal: AbortSignal): Promise<void> {
  const showProgress = makeProgress(process.stderr, systemClock)
  for (const { source } of config.models) {
    await resolveModelFile(source, {
      dataDir: config.dataDir,
      signal,
      onProgress: (progress) => showProgress({ label: source, ...progress }),
    })
  }
}

/** Takes over a changed file, one change at a time; a bad one is told and what runs goes on. */
function makeReloader(started: Promise<RunningApp>, load: () => Config, signal: AbortSignal): () => void {
  // A change while the server starts waits until it runs.
  let running: Promise<unknown> = started
  const reload = async () => {
    if (signal.aborted) return
    try {
      const config = load()
      await fetchModels(config, signal)
      await (await started).reload(config)
      say('configuration reloaded')
    } catch (error) {
      if (signal.aborted) return
      const reason = error instanceof Error ? error.message : String(error)
      process.stderr.write(`error: the new configuration is refused, the old one stays\n${reason}\n`)
    }
  }
  return () => {
    running = running.then(reload, () => {})
  }
}

/** Reloads when the file is saved and at SIGHUP. */
function makeWatcher(file: string | null, actions: { reload: () => void; stop: (reason: string) => void }) {
  // A closed terminal window sends the same signal as `kill -HUP`, but nobody is there to stop the server later.
  const ownsTerminal = (isatty(1) || isatty(2)) && hasTerminal()
  return watchConfig({
    file,
    clock: systemClock,
    onChange: (reason) => {
      if (reason === 'hangup' && ownsTerminal && !hasTerminal()) actions.stop('terminal closed')
      else actions.reload()
    },
    onBlind: (error) =>
      process.stderr.write(`warning: ${file} is not watched (${error.message}); reload with SIGHUP\n`),
  })
}

/**
 * Runs the server, or a worker that only works on tasks, until it is stopped; resolves with the exit code. A mistake
 * of the operator is a SetupError.
 */
export async function serve(options: { config?: string; flags: Flags; role: Role }): Promise<number> {
  const { role } = options
  // The port of the file is the server's: a worker beside it takes a free one for its health and metrics.
  const flags = role === 'worker' ? { ...options.flags, port: options.flags.port ?? '0' } : options.flags
  const source = { file: options.config, env: process.env, cwd: process.cwd(), flags }
  const load = () => loadConfig(source)
  const configFile = findConfigFile(source)
  const config = load()
  if (role === 'worker' && !/^postgres(ql)?:/.test(config.storage.url)) {
    throw new SetupError(
      'A worker shares the tasks of a PostgreSQL storage; name it with --storage postgres://… or `storage.url`. ' +
        'An embedded storage belongs to one server, which works on its tasks itself.',
    )
  }

  if (role === 'server') refuseOpenDoor(config)

  const stopping = new AbortController()
  const started = Promise.withResolvers<RunningApp>()
  let app: RunningApp | null = null
  let stopped = Promise.resolve()
  let forcedCode: number | null = null
  const stop = (reason: string) => {
    if (stopping.signal.aborted) return
    stopping.abort()
    if (app === null) return
    const seconds = Math.ceil(config.server.drainTimeoutMs / 1000)
    say(`${reason}: requests in flight have up to ${seconds} s to finish; Ctrl-C again stops at once`)
    stopped = app.stop()
    // Awaited below, where its failure is told; until then it must not count as unhandled.
    stopped.catch(() => {})
  }
  const force = (signal: StopSignal) => {
    const code = exitCodes[signal]
    forcedCode = code
    const forced = app?.stop({ force: true }) ?? Promise.resolve()
    void Promise.race([forced, systemClock.sleep(forceTimeoutMs)]).finally(() => process.exit(code))
  }
  const stopListening = listenForStop({
    clock: systemClock,
    onFirst: () => stop('stopping'),
    onSecond: force,
  })
  const reload = makeReloader(started.promise, load, stopping.signal)
  const watcher = makeWatcher(configFile, { reload, stop })
  const version = readVersion()
  try {
    await watcher.start()
    await fetchModels(config, stopping.signal)
    const { startApp } = await import('../app.ts')
    app = await startApp(config, { version, role, signal: stopping.signal })
    if (stopping.signal.aborted) {
      await app.stop({ force: true })
      return 0
    }
    started.resolve(app)
    const isOpen = !config.auth.required
    const { processes } = config.server
    const facts = {
      version,
      url: app.url,
      configFile,
      models: app.models,
      silent: app.silent,
      isOpen,
      processes,
    }
    say(role === 'worker' ? formatWorkerBanner(facts) : formatBanner(facts))
    await app.closed
    await stopped
    if (stopping.signal.aborted) say('stopped')
    return 0
  } catch (error) {
    // Ctrl-C while it starts is no failure, whatever the interrupted step says about it.
    if (stopping.signal.aborted && app === null) return 0
    throw error
  } finally {
    await watcher.stop()
    // Once nobody listens, the next signal of an impatient person would end the process in its own way.
    if (forcedCode !== null) process.exit(forcedCode)
    stopListening()
  }
}
