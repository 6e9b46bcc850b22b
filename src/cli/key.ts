import { systemClock } from '../core/clock.ts'
import { SetupError } from '../core/errors.ts'
import type { AccessOptions, KeyCreateOptions } from './access.ts'
import { withAccess, type MadeKey, type ShownKey } from './access-client.ts'
import { formatTable } from './models.ts'
import { keepLine } from './plain-text.ts'
import { readTime, readWhole } from './flag-values.ts'

const write = (text: string) => void process.stdout.write(`${text}\n`)
const writeJson = (value: unknown) => write(JSON.stringify(value, null, 2))

/** Makes a key. Standard output is the key alone, so that a script takes it as it is. */
export async function createKey(options: KeyCreateOptions): Promise<number> {
  const { tenant, name, role, expires, limit } = options
  const fields = {
    tenant,
    ...(name === undefined ? {} : { name }),
    ...(role === undefined ? {} : { roles: role.flatMap((names) => names.split(',')) }),
    ...(expires === undefined ? {} : { expires_at: readTime('--expires', expires, systemClock.wallMs()) }),
    ...(limit === undefined ? {} : { limits: readLimits(limit) }),
  }
  const made = await withAccess(options, (client) => client.createKey(fields))
  if (options.json) writeJson(made)
  else {
    write(made.key)
    process.stderr.write(describeMade(made))
  }
  return 0
}

function readLimits(pairs: readonly string[]): Record<string, number> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const [, name, value] = /^(\w+)=(.+)$/.exec(pair) ?? []
      if (name === undefined || value === undefined) {
        throw new SetupError(`--limit ${pair} is not allowed; a pair such as requestsPerMinute=60`)
      }
      return [name, readWhole(`--limit ${name}`, value)]
    }),
  )
}

function describeMade({ id, tenant, roles, expires_at }: MadeKey): string {
  const end = expires_at === null ? 'it does not expire' : `it expires ${formatTime(expires_at)}`
  return [
    '',
    `This is the key ${id} of the tenant ${tenant} (${roles.join(', ')}); ${end}.`,
    'Keep it now: it is not shown again. Commands read it from AUTOGLM_API_KEY.',
    '',
  ].join('\n')
}

export async function listKeys(options: AccessOptions & { tenant?: string }): Promise<number> {
  const keys = await withAccess(options, (client) => client.listKeys(options.tenant))
  if (options.json) writeJson({ keys })
  else write(keys.length === 0 ? 'there are no keys' : formatKeys(keys))
  return 0
}

const formatTime = (seconds: number) => `${new Date(seconds * 1_000).toISOString().slice(0, 16)}Z`

function formatKeys(keys: readonly ShownKey[]): string {
  const rows = keys.map((key) => [
    key.id,
    key.tenant,
    keepLine(key.name) || '-',
    key.status,
    key.roles.join(','),
    formatTime(key.created_at),
    key.expires_at === null ? '-' : formatTime(key.expires_at),
  ])
  return formatTable([['ID', 'TENANT', 'NAME', 'STATUS', 'ROLES', 'CREATED', 'EXPIRES'], ...rows])
}

/** Revokes keys one after the other; 1 when one of them could not be. */
export async function revokeKeys(ids: readonly string[], options: AccessOptions): Promise<number> {
  return withAccess(options, async (client) => {
    const revoked: ShownKey[] = []
    let code = 0
    for (const id of ids) {
      try {
        revoked.push(await client.revokeKey(id))
        if (!options.json) write(`${id} revoked`)
      } catch (error) {
        const { message } = error as Error
        if (ids.length === 1) throw error
        process.stderr.write(`error: ${id}: ${message}\n`)
        code = 1
      }
    }
    if (options.json) writeJson({ keys: revoked })
    return code
  })
}
