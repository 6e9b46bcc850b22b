import { ask, findServer, listModels, type ListedModel, type Server } from './api-client.ts'

export type ModelsOptions = { url?: string; json?: boolean }

type Health = { status?: string; reasons?: string[] }

/** Not every OpenAI-compatible server has this route; without it, there is nothing more to tell. */
async function readHealth(server: Server): Promise<Health | null> {
  const response = await ask(server, '/healthz')
  if (response.status !== 200 && response.status !== 503) return null
  return response.json().then(
    (health) => health as Health,
    () => null,
  )
}

function describeState({ instances }: ListedModel): string {
  if (!instances) return '-'
  if (instances.available === 0) return 'unavailable'
  return instances.available < instances.total ? 'degraded' : 'ready'
}

/** Cells as lines, each column as wide as its widest cell. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)))
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column]!)).join('  ').trimEnd()).join('\n')
} // prettier-ignore

function formatModels(models: readonly ListedModel[], health: Health | null): string {
  const rows = models.map((model) => [
    model.id,
    describeState(model),
    model.instances ? `${model.instances.available} of ${model.instances.total} available` : '-',
    model.alias_of ?? '',
  ])
  const isAliased = models.some(({ alias_of }) => alias_of !== undefined)
  const head = ['MODEL', 'STATE', 'INSTANCES', ...(isAliased ? ['ALIAS OF'] : [])]
  const reasons = (health?.reasons ?? []).map((reason) => `! ${reason}`)
  return [formatTable([head, ...rows]), ...reasons].join('\n')
}

/** Lists what a running server serves. */
export async function showModels(options: ModelsOptions): Promise<number> {
  const server = findServer(options.url, process.env)
  const models = await listModels(server)
  const health = await readHealth(server)
  const text = options.json ? JSON.stringify({ models, health }, null, 2) : formatModels(models, health)
  process.stdout.write(`${text}\n`)
  return 0
}
