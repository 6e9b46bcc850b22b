import { configRule, type Rule } from './knobs.ts'
import { hidePassword, type Path, type Place } from './problem.ts'
import { readValue } from './read-value.ts'
import type { Setting } from './setting.ts'

/** The settings of the command line, as typed. */
export type Flags = {
  host?: string
  port?: string
  processes?: string
  dataDir?: string
  policy?: string
  logLevel?: string
  logFormat?: string
  storage?: string
  redis?: string
  model?: string
  instances?: string
  upstream?: readonly string[]
}

type FlagRow = { key: keyof Flags; flag: string; argument: string; path: readonly string[]; help: string }

/** The flags that set one knob each; docs/configuration.md and `--help` are read off this table. */
export const plainFlags = [
  { key: 'host', flag: '--host', argument: '<address>', path: ['server', 'host'], help: 'address to listen on' },
  { key: 'port', flag: '--port', argument: '<number>', path: ['server', 'port'], help: 'port to listen on; 0 takes a free one' },
  { key: 'processes', flag: '--processes', argument: '<number>', path: ['server', 'processes'], help: 'gateway processes that share the port' },
  { key: 'dataDir', flag: '--data-dir', argument: '<folder>', path: ['dataDir'], help: 'folder for downloaded models and other state' },
  { key: 'storage', flag: '--storage', argument: '<url>', path: ['storage', 'url'], help: 'where tasks and files are kept: sqlite:PATH or postgres://…' },
  { key: 'redis', flag: '--redis', argument: '<url>', path: ['redis', 'url'], help: 'Redis in which several servers share their limits: redis://…' },
  { key: 'policy', flag: '--policy', argument: '<name>', path: ['routing', 'policy'], help: 'how an instance is chosen' },
  { key: 'logLevel', flag: '--log-level', argument: '<level>', path: ['log', 'level'], help: 'least severe level that is written' },
  { key: 'logFormat', flag: '--log-format', argument: '<format>', path: ['log', 'format'], help: 'auto, json or pretty' },
] as const satisfies readonly FlagRow[] // prettier-ignore

/** The flags that make entries of a list. */
export const fleetFlags = [
  { key: 'model', flag: '--model', argument: '<source>', path: ['models'], help: 'run this one model: tiny, a GGUF file, or hf:user/repo:file.gguf' },
  { key: 'instances', flag: '--instances', argument: '<number>', path: ['models', 'instances'], help: 'processes that run the model' },
  { key: 'upstream', flag: '--upstream', argument: '<url>', path: ['upstreams'], help: 'use this model server; may be given again' },
] as const satisfies readonly FlagRow[] // prettier-ignore

const ruleAt = (path: Path): Rule =>
  path.reduce<Rule>((rule, step) => rule.properties?.[String(step)] ?? {}, configRule)

/** `tiny` -> `tiny`; `dir/llama.gguf` and `hf:user/repo:llama.gguf` -> `llama` */
export function nameModel(source: string): string {
  const file = source.split(/[/\\:]/).at(-1) ?? source
  return file.replace(/\.gguf$/i, '').replaceAll(/\s+/g, '-') || source
}

/** `http://127.0.0.1:8000/v1` -> `127.0.0.1-8000`; what is no URL is refused later by its own check. */
function nameUpstream(url: string): string {
  if (!URL.canParse(url)) return 'upstream'
  const { hostname, port, protocol } = new URL(url)
  const name = `${hostname}-${port || (protocol === 'https:' ? '443' : '80')}`
  return name.replaceAll(/[^a-zA-Z0-9._-]/g, '').slice(0, 60)
}

/** Two paths on one host and port make two upstreams: `host-8000`, `host-8000-2`. */
function makeUnique(names: readonly string[]): string[] {
  return names.map((name, at) => {
    const before = names.slice(0, at).filter((other) => other === name).length
    return before === 0 ? name : `${name}-${before + 1}`
  })
}

/** The settings that the command line makes, except `--instances`, which needs to know the models it is for. */
export function readFlags(flags: Flags): Setting[] {
  const settings: Setting[] = plainFlags.flatMap(({ key, flag, path }) => {
    const text = flags[key]
    if (text === undefined) return []
    const read = readValue(text, ruleAt(path))
    const place: Place = { kind: 'flag', name: flag, value: hidePassword(text).slice(0, 80) }
    return [{ path, value: 'value' in read ? read.value : text, place }]
  })
  if (flags.model !== undefined) {
    const entry = { name: nameModel(flags.model), source: flags.model }
    settings.push({
      path: ['models'],
      value: [entry],
      place: { kind: 'flag', name: '--model', value: flags.model },
    })
  }
  if (flags.upstream !== undefined && flags.upstream.length > 0) {
    const names = makeUnique(flags.upstream.map(nameUpstream))
    const value = flags.upstream.map((url, at) => ({ name: names[at], url }))
    settings.push({ path: ['upstreams'], value, place: { kind: 'flag', name: '--upstream', value: null } })
    flags.upstream.forEach((url, at) => {
      const place: Place = { kind: 'flag', name: '--upstream', value: hidePassword(url) }
      settings.push({ path: ['upstreams', at, 'url'], value: url, place })
    })
  }
  return settings
}

/** `--instances` for the one model that runs; null when it is not given. */
export function readInstancesFlag(flags: Flags): { value: unknown; place: Place } | null {
  if (flags.instances === undefined) return null
  const read = readValue(flags.instances, { type: 'integer' })
  const place: Place = { kind: 'flag', name: '--instances', value: flags.instances.slice(0, 80) }
  return { value: 'value' in read ? read.value : flags.instances, place }
}
