import { SetupError } from '../core/errors.ts'

/** The way to a value: `['models', 0, 'source']`. */
export type Path = readonly (string | number)[]

/** Where a value was written. `value` is its text, or null when it is long, nested or secret. */
export type Place =
  | { kind: 'file'; file: string; line: number; column: number }
  | { kind: 'environment'; name: string; value: string | null }
  | { kind: 'flag'; name: string; value: string | null }
  | { kind: 'nowhere' }

/** One mistake. `what` continues the sentence that begins with the place, the field and (see `shown`) the value. */
export type Problem = {
  place: Place
  path: Path
  /** The value as it may be shown; null when there is none or it must stay secret. */
  shown: string | null
  what: string
}

/** `models[0].source`; a name that is not a plain word is quoted. */
export function formatPath(path: Path): string {
  let text = ''
  for (const step of path) {
    if (typeof step === 'number') text += `[${step}]`
    else if (/^[A-Za-z_][\w-]*$/.test(step)) text += text === '' ? step : `.${step}`
    else text += `[${JSON.stringify(step)}]`
  }
  return text
}

/** One line: where, which field, what it says, what is allowed. */
function formatProblem({ place, path, shown, what }: Problem): string {
  const field = formatPath(path)
  if (place.kind === 'file') {
    const start = `${place.file}:${place.line}:${place.column}`
    return [start, field === '' ? '' : ` ${field}`, ':', shown === null ? '' : ` ${shown}`, ` ${what}`].join(
      '',
    )
  }
  if (place.kind === 'nowhere') {
    return [field === '' ? '' : `${field}: `, shown === null ? '' : `${shown} `, what].join('')
  }
  // A plain value is shown as it was typed, in place of the value as it was understood.
  if (place.value !== null) {
    const separator = place.kind === 'environment' ? '=' : ' '
    return `${place.name}${separator}${place.value}${field === '' ? '' : ` (${field})`} ${what}`
  }
  return `${place.name}${field === '' ? '' : ` ${field}`}:${shown === null ? '' : ` ${shown}`} ${what}`
}

const order = { file: 0, environment: 1, flag: 2, nowhere: 3 } as const

function compare(a: Problem, b: Problem): number {
  if (a.place.kind === 'file' && b.place.kind === 'file') {
    return a.place.line - b.place.line || a.place.column - b.place.column
  }
  return order[a.place.kind] - order[b.place.kind]
}

/** All mistakes in one error, those of the file first and in its order. */
export function toSetupError(problems: readonly Problem[]): SetupError {
  const lines = problems.toSorted(compare).map(formatProblem)
  if (lines.length === 1) return new SetupError(lines[0])
  return new SetupError(
    `${lines.length} mistakes in the configuration:\n${lines.map((line) => `  ${line}`).join('\n')}`,
  )
}

const shownCharactersMax = 80

/** A value as it may appear in a message: short, on one line, without passwords; containers by their kind only. */
export function showValue(value: unknown): string {
  if (value === null || value === undefined) return '(empty)'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'a mapping'
  const text = typeof value === 'string' ? JSON.stringify(hidePassword(value)) : String(value)
  return text.length <= shownCharactersMax ? text : `${text.slice(0, shownCharactersMax)}…`
}

/** `https://user:secret@host?password=secret` -> `https://***@host?password=***`. People leave an @ in it as it is. */
export const hidePassword = (text: string): string =>
  hidePasswordParameter(text.replaceAll(/(?<=\/\/)[^\s/?#]*@/g, '***@'))

export const hidePasswordParameter = (text: string): string =>
  text.replaceAll(/(?<=[?&]password=)[^\s&#"']+/gi, '***')
