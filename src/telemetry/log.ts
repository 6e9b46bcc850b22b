import { Writable } from 'node:stream'
import pino from 'pino'
import type { Clock } from '../core/clock.ts'

export type Logger = pino.Logger

export type LogOptions = {
  level: 'debug' | 'info' | 'warn' | 'error' | 'silent'
  format: 'auto' | 'json' | 'pretty'
}

/** Lines wait at most this long in memory: one write for many lines keeps the log off the way of the requests. */
const flushEveryMs = 200

/**
 * The log of the process, on stderr: JSON lines, or readable ones on a terminal. Nothing logs a body, a key or an
 * authorisation header: the fields of every line are chosen by name. `close` writes what is still in memory.
 */
export function openLog(options: LogOptions, clock: Clock): { log: Logger; close: () => void } {
  const settings = { level: options.level, base: null, timestamp: pino.stdTimeFunctions.isoTime }
  const pretty = options.format === 'pretty' || (options.format === 'auto' && process.stderr.isTTY)
  if (pretty) return { log: pino(settings, prettyStream(process.stderr)), close: () => {} }

  const file = pino.destination({ fd: 2, sync: false, minLength: 8192 })
  // A closed stderr must not end the service.
  file.on('error', () => {})
  const stopFlushing = clock.every(flushEveryMs, () => file.flush())
  const close = () => {
    stopFlushing()
    try {
      file.flushSync()
    } catch {
      // Not open yet, or closed by the reader: there is nobody left to tell.
    }
  }
  return { log: pino(settings, file), close }
}

const levelNames: Record<number, string> = { 20: 'debug', 30: 'info ', 40: 'WARN ', 50: 'ERROR', 60: 'FATAL' }

/** `12:30:01.250 info  request method=POST …` for the eyes of a person at a terminal. */
export function formatPretty(line: string): string {
  const { time, level, msg, err, ...fields } = JSON.parse(line) as Record<string, unknown>
  const rest = Object.entries(fields)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => `${name}=${typeof value === 'object' ? JSON.stringify(value) : String(value)}`)
  const stack = err && typeof err === 'object' && 'stack' in err ? `\n${String(err.stack)}` : ''
  const clockTime = String(time).slice(11, 23)
  return `${[clockTime, levelNames[Number(level)] ?? level, msg, ...rest].join(' ')}${stack}\n`
}

function prettyStream(target: NodeJS.WriteStream): Writable {
  return new Writable({
    decodeStrings: false,
    write(chunk: string | Buffer, _encoding, done) {
      target.write(String(chunk).split('\n').filter(Boolean).map(formatPretty).join(''))
      done()
    },
  })
}
