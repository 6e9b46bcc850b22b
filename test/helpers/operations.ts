import { accessOf, type Access } from '../../src/gateway/auth/access.ts'

/** One operation of /openapi.json. */
export type Operation = {
  method: string
  /** With its parameters in braces. */
  path: string
  access: Access
  /** The path without its parameters, such as `/v1/tasks` of `/v1/tasks/{id}/events`; null where there are none. */
  collection: string | null
}

/** All that a server says that it offers. */
export async function listOperations(url: string): Promise<Operation[]> {
  const response = await fetch(`${url}/openapi.json`)
  const { paths } = (await response.json()) as { paths: Record<string, Record<string, unknown>> }
  return Object.entries(paths).flatMap(([path, operations]) =>
    Object.keys(operations).map((name) => {
      const method = name.toUpperCase()
      const brace = path.indexOf('/{')
      const access = accessOf(method, path.replaceAll(/\{(\w+)\}/g, ':$1'))
      return { method, path, access, collection: brace === -1 ? null : path.slice(0, brace) }
    }),
  )
}

export const fillPath = (path: string, id: string): string =>
  path.replaceAll(/\{\w+\}/g, encodeURIComponent(id))
