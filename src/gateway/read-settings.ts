import type { TSchema } from 'typebox'
import { toRule } from '../config/knobs.ts'
import { formatPath } from '../config/problem.ts'
import { applyRule } from '../config/validate.ts'
import { fail } from '../core/errors.ts'

export type Fields = Readonly<Record<string, unknown>>

/**
 * A part of a body that has the shape of a part of the configuration, with its defaults filled in. Throws
 * invalid_request, naming the field as the configuration would.
 */
export function readSettings(schema: TSchema, given: unknown, param: string): unknown {
  const { value, findings } = applyRule(toRule(schema), given, [param])
  const [first] = findings
  if (!first) return value
  const field = formatPath(first.path)
  const shown = first.shown === null ? '' : `${first.shown} `
  throw fail('invalid_request', { message: `\`${field}\`: ${shown}${first.what}.`, param: field })
}

/** Throws invalid_request for a field that is not `known`: it would be ignored in silence. */
export function refuseStrangers(fields: Fields, known: readonly string[]): void {
  const stranger = Object.keys(fields)
    .find((name) => !known.includes(name))
    ?.slice(0, 100)
  if (stranger === undefined) return
  throw fail('invalid_request', {
    message: `\`${stranger}\` is not a field here; known are ${known.join(', ')}.`,
    param: stranger,
  })
}
