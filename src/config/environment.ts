import { knobs } from './knobs.ts'
import { hidePassword, type Problem } from './problem.ts'
import { readValue } from './read-value.ts'
import type { Setting } from './setting.ts'
import { suggest } from './suggest.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** Variables of ours that are no knobs, and what they are for. */
export const otherVariables = {
  AUTOGLM_CONFIG: 'Path of the configuration file, where `--config` does not name one.',
  AUTOGLM_API_KEY: 'Key that `autoglm chat` and `autoglm models` send to the server.',
  AUTOGLM_URL: 'Server that `autoglm chat` and `autoglm models` talk to, where `--url` does not name one.',
  AUTOGLM_DEBUG: '`1` shows the stack trace of an unexpected error.',
} as const

/**
 * Kubernetes gives every container variables about each Service of its namespace. A Service called `autoglm` or
 * `autoglm-server` makes `AUTOGLM_PORT=tcp://…` or `AUTOGLM_SERVER_PORT=tcp://…`: nobody's setting.
 * Source: https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
 */
function isServiceLink(name: string, value: string): boolean {
  if (/_SERVICE_(HOST|PORT(_\w+)?)$/.test(name)) return true
  if (/_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/.test(name)) return true
  return name.endsWith('_PORT') && /^(tcp|udp|sctp):\/\//.test(value)
}

const byVariable = new Map(knobs.map((knob) => [knob.variable, knob]))

function refuseUnknown(name: string): Problem {
  const meant = suggest(name, [...byVariable.keys(), ...Object.keys(otherVariables)])
  const hint = meant === null ? '`autoglm validate --print` shows all settings' : `did you mean ${meant}?`
  return {
    place: { kind: 'environment', name, value: null },
    path: [],
    shown: null,
    what: `unknown variable; ${hint}`,
  }
}

/** The settings that the environment makes, and what is wrong with it. An empty variable counts as not set. */
export function readEnvironment(env: Environment): { settings: Setting[]; problems: Problem[] } {
  const settings: Setting[] = []
  const problems: Problem[] = []
  for (const [name, text] of Object.entries(env)) {
    if (!name.startsWith('AUTOGLM_') || text === undefined || text === '') continue
    if (Object.hasOwn(otherVariables, name) || isServiceLink(name, text)) continue
    const knob = byVariable.get(name)
    if (!knob) {
      problems.push(refuseUnknown(name))
      continue
    }
    const isPlain = knob.rule.type !== 'array' && knob.rule.type !== 'object'
    const place = {
      kind: 'environment',
      name,
      value: isPlain ? hidePassword(text).slice(0, 80) : null,
    } as const
    const read = readValue(text, knob.rule)
    if ('mistake' in read) problems.push({ place, path: knob.path, shown: null, what: read.mistake })
    else settings.push({ path: knob.path, value: read.value, place })
  }
  return { settings, problems }
}
