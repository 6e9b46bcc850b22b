import type { ServerResponse } from 'node:http'
import { fail, type ApiError } from '../core/errors.ts'

/** All routes, for those requests that meet none. */
export class RouteTable {
  readonly #routes: { pattern: RegExp; methods: readonly string[] }[] = []

  /** Enters a route by its pattern, such as `/v1/models/:id`. */
  add(route: { url: string; method: string | readonly string[] }): void {
    const escaped = route.url.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&')
    const pattern = escaped.replaceAll(/:\w+/g, '[^/]+').replaceAll('*', '.*')
    this.#routes.push({ pattern: new RegExp(`^${pattern}$`), methods: [route.method].flat() })
  }

  /** Why there is no route for a request: the path is unknown, or known with other methods (then `Allow` is set). */
  refuse({ method, url }: { method: string; url: string }, response: ServerResponse): ApiError {
    const path = url.split('?')[0] ?? ''
    const methods = new Set(
      this.#routes.filter(({ pattern }) => pattern.test(path)).flatMap((route) => route.methods),
    )
    // A file of the documents that is not there has a route all the same.
    if (methods.size === 0 || methods.has(method)) {
      return fail('not_found', { message: `There is no route ${method} ${path.slice(0, 200)}.` })
    }
    const allow = [...methods].join(', ')
    response.setHeader('allow', allow)
    return fail('method_not_allowed', { message: `${method} is not allowed here; allowed: ${allow}.` })
  }
}
