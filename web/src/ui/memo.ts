import { Component, type ComponentChildren, h } from "preact";

/** A component that is only rendered again if `same` returns false for its properties. */
export function memo<P extends object>(
  render: (props: P) => ComponentChildren,
  same: (before: P, after: P) => boolean,
) {
  return class Memo extends Component<P> {
    override shouldComponentUpdate(next: P): boolean {
      return !same(this.props, next);
    }
    override render() {
      return h(render as (props: P) => never, this.props as never);
    }
  };
}
