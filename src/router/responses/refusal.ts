import { fail, type ApiError } from '../../core/errors.ts'
import type { Fields } from '../calls/body.ts'

/** What is wrong with a field: `invalid('input', 'must be …')`. */
export const invalid = (param: string, what: string): ApiError =>
  fail('invalid_request', { message: `\`${param}\` ${what}.`, param })

/** What can't be honoured, and so is refused by its name. */
export const unsupported = (param: string, why: string): ApiError =>
  fail('unsupported_parameter', { message: `\`${param}\` is not supported: ${why}.`, param })

export const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** A value as it may stand in a message. */
export const show = (value: unknown): string => (JSON.stringify(value) ?? 'nothing').slice(0, 100)

/** The string in a field; throws where it is missing or something else. */
export function readString(object: Fields, name: string, path: string): string {
  const value = object[name] ?? null
  if (value === null) throw invalid(`${path}.${name}`, 'is missing')
  if (typeof value !== 'string') throw invalid(`${path}.${name}`, `must be a string; it is ${show(value)}`)
  return value
}

/** Refuses fields that are neither known nor null. */
export function refuseOthers(object: Fields, path: string, known: readonly string[]): void {
  for (const [name, value] of Object.entries(object)) {
    if (value === null || value === undefined || known.includes(name)) continue
    throw unsupported(`${path}.${name.slice(0, 100)}`, 'it would have no effect here')
  }
}
