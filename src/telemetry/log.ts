import pino from 'pino'
import type { Clock } from '../core/clock.ts'
import { LineWriter } from './line-writer.ts'

export type Logger = pino.Logger

export type LogOptions = {
  level: 'debug' | 'info' | 'warn' | 'error' | 'silent'
  format: 'auto' | 'json' | 'pretty'
}

/** The log of the process, and the way for lines that are JSON already. */
export type OpenLog = {
  log: Logger
  /** Writes one line of JSON, made by the caller; for lines that are written at every request. */
  writeLine: (line: string) => void
  /** Writes what is still in memory. */
  close: () => void
}

/**
 * The log of the process, on stderr: JSON lines, or readable ones on a terminal. Nothing logs a body, a key or an
 * authorisation header: the fields of every line are chosen by name.
 */
export function openLog(options: LogOptions, clock: Clock): OpenLog {
  const settings = { level: options.level, base: null, timestamp: pino.stdTimeFunctions.isoTime }
  const pretty = options.format === 'pretty' || (options.format === 'auto' && process.stderr.isTTY)
  if (pretty) {
    const writeLine = (line: string) => void process.stderr.write(formatPretty(line))
    return { log: pino(settings, { write: writeLine }), writeLine, close: () => {} }
  }
  const writer = new LineWriter(2, clock)
  const writeLine = (line: string) => writer.write(line)
  return { log: pino(settings, { write: writeLine }), writeLine, close: () => writer.close() }
}

const levelNames: Record<number, string> = { 20: 'debug', 30: 'info ', 40: 'WARN ', 50: 'ERROR', 60: 'FATAL' }

/** Characters that move the cursor or begin a line of their own, U+0085 and both separators among them. */
const controls = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g
const escape = (text: string): string =>
  text.replaceAll(controls, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`)

/** `12:30:01.250 info  request method=POST …` for the eyes of a person at a terminal. */
export function formatPretty(line: string): string {
  const { time, level, msg, err, ...fields } = JSON.parse(line) as Record<string, unknown>
  const rest = Object.entries(fields)
    .filter(([, value]) => value !== null && value !== undefined)
    .map(
      ([name, value]) =>
        `${name}=${escape(typeof value === 'object' ? JSON.stringify(value) : String(value))}`,
    )
  // A stack has lines of its own; what else is in the message of an error may come from anybody.
  const lines = err && typeof err === 'object' && 'stack' in err ? String(err.stack).split('\n') : []
  const stack = lines.map((line) => `\n${escape(line)}`).join('')
  const clockTime = String(time).slice(11, 23)
  return `${[clockTime, levelNames[Number(level)] ?? level, escape(String(msg)), ...rest].join(' ')}${stack}\n`
}
