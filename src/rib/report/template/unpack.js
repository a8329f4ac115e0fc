"use strict";
// The figures' data, plotly and the page's scripts lie in the page compressed. The text is shown before they are unpacked.
(async () => {
  const unpack = async (name) => {
    const text = atob(document.getElementById("packed-" + name).textContent);
    const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  const add = (text, more) => {
    const element = Object.assign(document.createElement("script"), more);
    element.textContent = text;
    document.body.append(element);
  };
  await new Promise((shown) => requestAnimationFrame(() => setTimeout(shown)));
  add(await unpack("figures"), { type: "application/json", id: "figures" });
  add(await unpack("plotly"));
  add(await unpack("script"));
  document.documentElement.dataset.drawn = "yes";
})().catch((error) => {
  for (const place of document.querySelectorAll(".figure")) place.textContent = "This browser cannot draw the figures: " + error;
});
