import { strict as assert } from 'node:assert'

export type Fields = Record<string, unknown>
export type Shown = Fields & { id: string; status: string; history: Fields[]; steps: Fields[] }
export type Page = {
  data: Shown[]
  has_more: boolean
  first_id: string | null
  last_id: string | null
  counts: Record<string, number>
}
export type Refusal = { error: { message: string; code: string; param: string | null; type: string } }

/** The headers of a call of this tenant. */
export const as = (tenant: string, more: Record<string, string> = {}) => ({
  headers: { 'x-autoglm-tenant': tenant, ...more },
})

/** Reads what must be there. */
export async function getAs<T = Shown>(server: { url: string }, path: string, tenant: string): Promise<T> {
  const response = await fetch(server.url + path, as(tenant))
  assert.equal(response.status, 200, path)
  return (await response.json()) as T
}

/** Takes a refusal apart, after a look at what must be in it. */
export const refused = async (
  response: Response,
  status: number,
  code: string,
  param?: string | null,
): Promise<Refusal['error']> => {
  const { error } = (await response.json()) as Refusal
  assert.deepEqual([response.status, error.code], [status, code], error.message)
  if (param !== undefined) assert.equal(error.param, param)
  return error
}
